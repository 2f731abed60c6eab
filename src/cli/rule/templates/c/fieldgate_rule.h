// fieldgate:rule@1.0.0 for C: the contract's types in the layout of the component model's canonical
// ABI, and its calls. Include it in one file. No C library is needed, none is linked.
#ifndef FIELDGATE_RULE_H
#define FIELDGATE_RULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FG_SECOND 1000000LL // times are in microseconds
#define FG_KEY_MAX 256      // bytes of a key of the state

typedef struct { const char *at; uint32_t length; } fg_text;

enum { FG_NUMBER, FG_INTEGER, FG_BOOLEAN, FG_TEXT, FG_NONE };
enum { FG_TIMEOUT, FG_DEVICE_EXCEPTION, FG_MALFORMED, FG_OUT_OF_RANGE, FG_OFFLINE, FG_CONFIGURATION };
enum {
    FG_UNCERTAIN = 1, FG_BAD = 2, FG_LATE = 4, FG_CLOCK_UNSYNCED = 8, FG_DERIVED = 16, FG_SUBSTITUTED = 32
};

typedef struct {
    uint8_t kind; // FG_NUMBER ..
    union {
        double number;
        int64_t integer;
        uint8_t boolean;
        fg_text text; // until the call ends
        uint8_t none; // FG_TIMEOUT ..
    };
} fg_value;

typedef struct {
    uint32_t series;
    int64_t at;      // microseconds since 1970 UTC
    uint8_t quality; // FG_UNCERTAIN | ..
    fg_value value;
} fg_reading;

typedef struct { fg_text name, value; } fg_label;

typedef struct { // texts are there until the call ends: copy what you keep
    uint32_t id;
    fg_text device, point;
    uint8_t has_unit;
    fg_text unit;
    const fg_label *labels;
    uint32_t labels_length;
} fg_series;

typedef struct {
    uint64_t batch;
    int64_t now, watermark;
    bool clock_synced, fresh;
} fg_context;

typedef struct { fg_text name; int64_t at; } fg_fired;

_Static_assert(sizeof(fg_reading) == 40 && sizeof(fg_series) == 40 && sizeof(fg_fired) == 16,
               "the layouts of the canonical ABI");

// Yours. Each returns 0, or a sentence that says why it failed; then nothing of the call counts.
const char *rule_open(const fg_series *series, uint32_t length, uint32_t *state_version);
const char *rule_series_added(const fg_series *series, uint32_t length);
const char *rule_process(const fg_context *context, const fg_reading *batch, uint32_t length);
const char *rule_on_timer(const fg_context *context, const fg_fired *fired, uint32_t length);
const char *rule_migrate(uint32_t from);

#define FG_IMPORT(interface, name) \
    __attribute__((import_module("fieldgate:rule/" interface "@1.0.0"), import_name(name)))
#define FG_EXPORT(name) __attribute__((export_name(name)))
#define FG_GUEST(name) FG_EXPORT("fieldgate:rule/guest@1.0.0#" name)

typedef struct { uint8_t is_some; fg_text text; } fg_maybe_text;
typedef struct { // option<param>
    uint8_t is_some;
    struct {
        uint8_t kind; // text, number, integer, boolean, duration, texts, numbers
        union {
            fg_text text;
            double number;
            int64_t integer;
            uint8_t boolean;
            uint64_t duration;
            struct { const fg_text *at; uint32_t length; } texts;
            struct { const double *at; uint32_t length; } numbers;
        };
    } param;
} fg_maybe_param;
typedef struct { uint8_t failed; union { uint32_t id; fg_text why; }; } fg_declared;

FG_IMPORT("params", "get") void fg_raw_param(const char *, size_t, fg_maybe_param *);
FG_IMPORT("output", "declare")
void fg_raw_declare(int32_t, const char *, size_t, const char *, size_t, int32_t, const char *, size_t, fg_declared *);
FG_IMPORT("output", "emit") void fg_emit(const fg_reading *readings, size_t length);
FG_IMPORT("state", "get") void fg_raw_state_get(const char *, size_t, fg_maybe_text *);
FG_IMPORT("state", "set") void fg_state_set(const char *key, size_t key_length, const void *value, size_t length);
FG_IMPORT("state", "delete") void fg_state_delete(const char *key, size_t key_length);
FG_IMPORT("timers", "set") void fg_timer_set(const char *name, size_t length, int64_t at);
FG_IMPORT("timers", "cancel") void fg_timer_cancel(const char *name, size_t length);
FG_IMPORT("log", "write") void fg_log(int32_t level, const char *message, size_t length); // 0 debug .. 3 error

// The compiler may call these of itself.
__attribute__((weak)) void *memcpy(void *to, const void *from, size_t length) {
    for (size_t n = 0; n < length; n++) ((volatile char *)to)[n] = ((const char *)from)[n];
    return to;
}
__attribute__((weak)) void *memset(void *to, int byte, size_t length) {
    for (size_t n = 0; n < length; n++) ((volatile char *)to)[n] = (char)byte;
    return to;
}

static inline uint32_t fg_length(const char *text) {
    uint32_t length = 0;
    while (text[length]) length++;
    return length;
}

static inline fg_maybe_param fg_param(const char *name) {
    fg_maybe_param found;
    fg_raw_param(name, fg_length(name), &found);
    return found;
}

static inline double fg_param_number(const char *name, double otherwise) {
    fg_maybe_param found = fg_param(name);
    return found.is_some ? found.param.number : otherwise;
}

static inline int64_t fg_param_duration(const char *name, int64_t otherwise) {
    fg_maybe_param found = fg_param(name);
    return found.is_some ? (int64_t)found.param.duration : otherwise;
}

// Declares an output; 0 data, 1 event. `unit` may be 0. Only in rule_open and rule_series_added.
static inline fg_declared fg_declare(int32_t stream, fg_text device, fg_text point, const char *unit) {
    fg_declared made;
    fg_raw_declare(stream, device.at, device.length, point.at, point.length, unit != 0, unit,
                   unit ? fg_length(unit) : 0, &made);
    return made;
}

// Copies what is kept under a key into `value`; returns its length, or -1 when there is nothing.
static inline int32_t fg_state_get(const char *key, uint32_t key_length, void *value, uint32_t length) {
    fg_maybe_text found;
    fg_raw_state_get(key, key_length, &found);
    if (!found.is_some) return -1;
    memcpy(value, found.text.at, found.text.length < length ? found.text.length : length);
    return (int32_t)found.text.length;
}

// Writes DEVICE/POINT into `key`, cut to what a key may have; returns its length.
static inline uint32_t fg_key(char key[FG_KEY_MAX], const fg_series *series) {
    uint32_t length = 0;
    for (uint32_t n = 0; n < series->device.length && length < FG_KEY_MAX; n++) key[length++] = series->device.at[n];
    if (length < FG_KEY_MAX) key[length++] = '/';
    for (uint32_t n = 0; n < series->point.length && length < FG_KEY_MAX; n++) key[length++] = series->point.at[n];
    return length;
}

// What the host hands over lies behind the program's own data and is gone when the call ends.
extern unsigned char __heap_base;
static uintptr_t fg_top;

FG_EXPORT("cabi_realloc")
void *cabi_realloc(void *old, size_t old_size, size_t align, size_t size) {
    if (!fg_top) fg_top = (uintptr_t)&__heap_base;
    uintptr_t at = (fg_top + align - 1) & ~(uintptr_t)(align - 1);
    if (size > UINT32_MAX - at) __builtin_trap();
    uintptr_t pages = (at + size + 65535) / 65536;
    uintptr_t have = __builtin_wasm_memory_size(0);
    if (pages > have && __builtin_wasm_memory_grow(0, pages - have) == (size_t)-1) __builtin_trap();
    fg_top = at + size;
    if (old) memcpy((void *)at, old, old_size < size ? old_size : size);
    return (void *)at;
}

// result<u32, error> and result<_, error> alike.
static struct { uint32_t failed; union { uint32_t version; fg_text code; }; fg_text message; } fg_result;

static inline void *fg_end(const char *why, uint32_t version) {
    fg_top = 0;
    fg_result.failed = why != 0;
    if (why) {
        fg_result.code = (fg_text){"failed", 6};
        fg_result.message = (fg_text){why, fg_length(why)};
    } else {
        fg_result.version = version;
    }
    return &fg_result;
}

FG_GUEST("open") void *fg_open(const fg_series *series, uint32_t length) {
    uint32_t version = 0;
    const char *why = rule_open(series, length, &version);
    return fg_end(why, version);
}

FG_GUEST("migrate") void *fg_migrate(uint32_t from) { return fg_end(rule_migrate(from), 0); }

FG_GUEST("series-added") void *fg_series_added(const fg_series *series, uint32_t length) {
    return fg_end(rule_series_added(series, length), 0);
}

FG_GUEST("process")
void *fg_process(uint64_t batch, int64_t now, int64_t watermark, int32_t synced, int32_t fresh,
                 const fg_reading *readings, uint32_t length) {
    fg_context context = {batch, now, watermark, synced != 0, fresh != 0};
    return fg_end(rule_process(&context, readings, length), 0);
}

FG_GUEST("on-timer")
void *fg_on_timer(uint64_t batch, int64_t now, int64_t watermark, int32_t synced, int32_t fresh,
                  const fg_fired *fired, uint32_t length) {
    fg_context context = {batch, now, watermark, synced != 0, fresh != 0};
    return fg_end(rule_on_timer(&context, fired, length), 0);
}

#endif
