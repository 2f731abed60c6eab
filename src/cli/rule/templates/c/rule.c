// Sends a reading when it has moved by more than a band since the one sent before, or after a
// heartbeat. Make it your own; what an operator can set stands in rule.toml.
#include "fieldgate_rule.h"

#define SERIES_MAX 200

// What is remembered of one series. Memory is only a cache: what must survive a restart is written
// to the host's state in rule_process.
typedef struct {
    double number;
    int64_t at;
} last_sent;

static struct {
    char key[FG_KEY_MAX];
    uint32_t key_length;
    last_sent last;
    bool loaded, known, changed;
} all[SERIES_MAX];
static uint32_t count;

static double band;
static int64_t heartbeat;

const char *rule_series_added(const fg_series *series, uint32_t length) {
    for (uint32_t n = 0; n < length; n++) {
        if (series[n].id >= SERIES_MAX) return "this rule takes at most 200 series";
        all[series[n].id].key_length = fg_key(all[series[n].id].key, &series[n]);
        if (series[n].id >= count) count = series[n].id + 1;
    }
    return 0;
}

const char *rule_open(const fg_series *series, uint32_t length, uint32_t *state_version) {
    *state_version = 1;
    band = fg_param_number("band", 0.1);
    heartbeat = fg_param_duration("heartbeat", 600 * FG_SECOND);
    return rule_series_added(series, length);
}

const char *rule_process(const fg_context *context, const fg_reading *batch, uint32_t length) {
    (void)context;
    for (uint32_t n = 0; n < length; n++) {
        const fg_reading *r = &batch[n];
        if (r->value.kind != FG_NUMBER) { // also that there is no value
            fg_emit(r, 1);
            continue;
        }
        __typeof__(&all[0]) s = &all[r->series];
        if (!s->loaded) {
            s->known = fg_state_get(s->key, s->key_length, &s->last, sizeof s->last) == sizeof s->last;
            s->loaded = true;
        }
        double moved = r->value.number - s->last.number;
        bool quiet = s->known && moved <= band && moved >= -band && r->at - s->last.at < heartbeat;
        if (!quiet) {
            s->last = (last_sent){r->value.number, r->at};
            s->known = s->changed = true;
            fg_emit(r, 1);
        }
    }
    for (uint32_t n = 0; n < count; n++) {
        if (all[n].changed) fg_state_set(all[n].key, all[n].key_length, &all[n].last, sizeof all[n].last);
        all[n].changed = false;
    }
    return 0;
}

const char *rule_on_timer(const fg_context *context, const fg_fired *fired, uint32_t length) {
    (void)context, (void)fired, (void)length;
    return 0;
}

const char *rule_migrate(uint32_t from) {
    (void)from;
    return "there is no earlier version of its state";
}
