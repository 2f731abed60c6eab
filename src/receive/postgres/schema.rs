//! The tables: made by `--init`, checked at every connection. A version that this program does not
//! know is left alone.

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::receive::arguments::Layout;

/// Version of the tables. A later one is refused; an earlier one is brought up by `--init`.
pub(super) const VERSION: i32 = 1;

/// Serialises `--init` of several receivers; any number that is ours alone.
const LOCK: &str = "SELECT pg_advisory_xact_lock(7312406718)";

const HEAD: &str = "CREATE TABLE IF NOT EXISTS fieldgate_layout (
  version integer NOT NULL,
  layout  text    NOT NULL,
  one     boolean PRIMARY KEY DEFAULT true CHECK (one)
)";

/// Hypertables where TimescaleDB is installed; without it, or without the right to it, plain tables.
const TIMESCALE: [&str; 2] = [
    "CREATE EXTENSION IF NOT EXISTS timescaledb",
    "SELECT create_hypertable('{table}', '{time}', if_not_exists => true, \
     create_default_indexes => false, migrate_data => true)",
];

/// Compression that costs a tenth of the default's time; servers built without it refuse.
const LZ4: [&str; 2] = [
    "ALTER TABLE blocks ALTER offsets_ms SET COMPRESSION lz4",
    "ALTER TABLE blocks ALTER value SET COMPRESSION lz4",
];

/// What a database holds of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// No tables.
    Nothing,
    /// Tables that this program can use.
    Ours(Layout),
    /// Tables of another version.
    Version(i32),
}

/// Looks at what there is.
pub(super) async fn look(client: &Client) -> Result<Found, tokio_postgres::Error> {
    let asked = client.query_opt("SELECT version, layout FROM fieldgate_layout", &[]).await;
    let row = match asked {
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => {
            return Ok(Found::Nothing);
        }
        other => other?,
    };
    let Some(row) = row else { return Ok(Found::Nothing) };
    let (version, layout): (i32, String) = (row.get(0), row.get(1));
    Ok(match layout.as_str() {
        _ if version != VERSION => Found::Version(version),
        "narrow" => Found::Ours(Layout::Narrow),
        "array" => Found::Ours(Layout::Array),
        _ => Found::Version(version),
    })
}

/// Makes what is missing, in one transaction. A database that holds another layout or version is not
/// touched; the caller has looked.
pub(super) async fn init(client: &Client, layout: Layout) -> Result<(), tokio_postgres::Error> {
    let (name, readings) = match layout {
        Layout::Narrow => ("narrow", include_str!("narrow.sql")),
        Layout::Array => ("array", include_str!("array.sql")),
    };
    // A table that is there already is no news to a person.
    let quiet = "SET LOCAL client_min_messages = warning";
    let parts =
        [LOCK, quiet, HEAD, include_str!("tables.sql"), readings, include_str!("views.sql")];
    let note = format!(
        "INSERT INTO fieldgate_layout (version, layout) VALUES ({VERSION}, '{name}') \
         ON CONFLICT DO NOTHING"
    );
    let all = format!("BEGIN; {}; {note}; COMMIT", parts.join(";\n"));
    client.batch_execute(&all).await?;
    improve(client, layout).await;
    Ok(())
}

/// Does what some servers can and others cannot; a refusal changes nothing.
async fn improve(client: &Client, layout: Layout) {
    if layout == Layout::Array {
        for statement in LZ4 {
            let _ = client.batch_execute(statement).await;
        }
    }
    let asked = "SELECT 1 FROM pg_available_extensions WHERE name = 'timescaledb'";
    if !matches!(client.query_opt(asked, &[]).await, Ok(Some(_))) {
        return;
    }
    let (table, time) = match layout {
        Layout::Narrow => ("readings", "ts"),
        Layout::Array => ("blocks", "t0"),
    };
    for statement in TIMESCALE {
        let statement = statement.replace("{table}", table).replace("{time}", time);
        if let Err(error) = client.batch_execute(&statement).await {
            tracing::debug!("TimescaleDB is not used: {error}");
            return;
        }
    }
}
