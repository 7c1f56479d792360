//! A customer list over HTTP, kept in SQLite. It knows nothing of policies.

mod http;

use fermyon::spin::sqlite::{Connection, Error, QueryResult, Value};
use serde_json::json;
use wasi::http::types::{IncomingRequest, Method, ResponseOutparam};

wit_bindgen::generate!({ world: "customers", path: "../../wit", generate_all });

struct App;

export!(App);

/// What a request is answered with: a status and a JSON body.
type Answer = (u16, serde_json::Value);

impl exports::wasi::http::incoming_handler::Guest for App {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let (status, body) = answer(&request).unwrap_or_else(|error| (500, json!({"error": name(&error)})));
        http::respond(out, status, &body.to_string());
    }
}

fn answer(request: &IncomingRequest) -> Result<Answer, Error> {
    let path = request.path_with_query().unwrap_or_default();
    let path = path.split('?').next().unwrap_or_default().trim_end_matches('/');
    let id = path.strip_prefix("/customers/").map(str::parse::<i64>);
    match (request.method(), path, id) {
        (Method::Get, "/customers", _) => list(),
        (Method::Get, _, Some(Ok(id))) => get(id),
        (Method::Post, _, Some(Ok(id))) => change(id, &http::body(request)),
        (_, "/customers", _) | (_, _, Some(Ok(_))) => Ok((405, json!({"error": "method not allowed"}))),
        (_, _, Some(Err(_))) => Ok((400, json!({"error": "a customer's id is a whole number"}))),
        _ => Ok((404, json!({"error": "not found"}))),
    }
}

fn open() -> Result<Connection, Error> {
    Connection::open("default")
}

fn list() -> Result<Answer, Error> {
    let found = open()?.execute("SELECT * FROM customers;", &[])?;
    Ok((200, rows(&found)))
}

fn get(id: i64) -> Result<Answer, Error> {
    let found = open()?.execute("SELECT * FROM customers WHERE id = ?;", &[Value::Integer(id)])?;
    match rows(&found).get_mut(0) {
        Some(customer) => Ok((200, customer.take())),
        None => Ok((404, json!({"error": "no such customer"}))),
    }
}

fn change(id: i64, body: &[u8]) -> Result<Answer, Error> {
    let fields: serde_json::Map<String, serde_json::Value> = match serde_json::from_slice(body) {
        Ok(fields) => fields,
        Err(error) => return Ok((400, json!({"error": format!("the body is not a JSON object: {error}")}))),
    };
    let connection = open()?;
    for (field, value) in &fields {
        let statement = match field.as_str() {
            "name" => "UPDATE customers SET name = ? WHERE id = ?;",
            "email" => "UPDATE customers SET email = ? WHERE id = ?;",
            _ => return Ok((400, json!({"error": format!("no field `{field}`: name, email")}))),
        };
        let Some(text) = value.as_str() else {
            return Ok((400, json!({"error": format!("field `{field}` is a string")})));
        };
        connection.execute(statement, &[Value::Text(text.to_owned()), Value::Integer(id)])?;
    }
    get(id)
}

fn rows(found: &QueryResult) -> serde_json::Value {
    let row = |row: &fermyon::spin::sqlite::RowResult| -> serde_json::Value {
        found.columns.iter().cloned().zip(row.values.iter().map(value)).collect()
    };
    found.rows.iter().map(row).collect()
}

fn value(value: &Value) -> serde_json::Value {
    match value {
        Value::Integer(number) => json!(number),
        Value::Real(number) => json!(number),
        Value::Text(text) => json!(text),
        Value::Blob(bytes) => json!(bytes),
        Value::Null => json!(null),
    }
}

fn name(error: &Error) -> String {
    match error {
        Error::NoSuchDatabase => "no-such-database".to_owned(),
        Error::AccessDenied => "access-denied".to_owned(),
        Error::InvalidConnection => "invalid-connection".to_owned(),
        Error::DatabaseFull => "database-full".to_owned(),
        Error::Io(message) => format!("io: {message}"),
    }
}
