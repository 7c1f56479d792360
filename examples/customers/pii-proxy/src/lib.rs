//! A policy: stands between an importer and SQLite, and hides the domain of every e-mail address in results.

mod mask;

#[cfg(target_family = "wasm")]
mod proxy {
    use super::mask::mask;

    wit_bindgen::generate!({ world: "pii-proxy", path: "../../wit", generate_all });

    use exports::fermyon::spin::sqlite as offered;
    use fermyon::spin::sqlite as used;

    struct Proxy;

    export!(Proxy);

    /// A connection of the caller, and the one behind it.
    struct Connection(used::Connection);

    impl offered::Guest for Proxy {
        type Connection = Connection;
    }

    impl offered::GuestConnection for Connection {
        fn open(database: String) -> Result<offered::Connection, offered::Error> {
            let connection = used::Connection::open(&database).map_err(error)?;
            Ok(offered::Connection::new(Connection(connection)))
        }

        fn execute(
            &self,
            statement: String,
            parameters: Vec<offered::Value>,
        ) -> Result<offered::QueryResult, offered::Error> {
            let parameters: Vec<used::Value> = parameters.into_iter().map(parameter).collect();
            let found = self.0.execute(&statement, &parameters).map_err(error)?;
            let rows = found
                .rows
                .into_iter()
                .map(|row| offered::RowResult { values: row.values.into_iter().map(value).collect() });
            Ok(offered::QueryResult { columns: found.columns, rows: rows.collect() })
        }
    }

    fn parameter(value: offered::Value) -> used::Value {
        match value {
            offered::Value::Integer(number) => used::Value::Integer(number),
            offered::Value::Real(number) => used::Value::Real(number),
            offered::Value::Text(text) => used::Value::Text(text),
            offered::Value::Blob(bytes) => used::Value::Blob(bytes),
            offered::Value::Null => used::Value::Null,
        }
    }

    fn value(value: used::Value) -> offered::Value {
        match value {
            used::Value::Integer(number) => offered::Value::Integer(number),
            used::Value::Real(number) => offered::Value::Real(number),
            used::Value::Text(text) => offered::Value::Text(mask(&text)),
            used::Value::Blob(bytes) => offered::Value::Blob(bytes),
            used::Value::Null => offered::Value::Null,
        }
    }

    fn error(error: used::Error) -> offered::Error {
        match error {
            used::Error::NoSuchDatabase => offered::Error::NoSuchDatabase,
            used::Error::AccessDenied => offered::Error::AccessDenied,
            used::Error::InvalidConnection => offered::Error::InvalidConnection,
            used::Error::DatabaseFull => offered::Error::DatabaseFull,
            used::Error::Io(message) => offered::Error::Io(mask(&message)),
        }
    }
}
