//! What is written is read, by us and by a protobuf library that has only the schema, as the same value.

use prost_reflect::SerializeOptions;

use super::strategies::{calls, random};
use super::*;

/// What a protobuf library reads, in its JSON.
fn read(schema: &MessageDescriptor, bytes: &[u8]) -> serde_json::Value {
    let message = DynamicMessage::decode(schema.clone(), bytes).unwrap();
    let options = SerializeOptions::new().use_proto_field_name(true);
    message.serialize_with_options(serde_json::value::Serializer, &options).unwrap()
}

#[test]
fn values_of_any_type_come_back_and_are_protobuf() {
    let session = Session::new();
    let checked = random(400).run(&calls(&session), |call| {
        let signature = &call.signature;
        let mut session = session.clone();
        let (arguments, result) = schema(signature);

        let mut bytes = Vec::new();
        signature.encode_arguments(&call.arguments, &mut session, &mut bytes).unwrap();
        assert_eq!(signature.decode_arguments(&bytes, &mut session).unwrap(), call.arguments);
        let expected = json::arguments(&arguments, signature, &call.arguments, &mut session);
        assert_eq!(read(&arguments, &bytes), expected, "{}", signature.text());
        assert_eq!(hex(&rewritten(arguments, &bytes)), hex(&bytes), "{}", signature.text());

        let mut bytes = Vec::new();
        signature.encode_result(call.result.as_ref(), &mut session, &mut bytes).unwrap();
        assert_eq!(signature.decode_result(&bytes, &mut session).unwrap(), call.result);
        let expected = json::result(&result, signature, call.result.as_ref(), &mut session);
        assert_eq!(read(&result, &bytes), expected, "{}", signature.text());
        assert_eq!(hex(&rewritten(result, &bytes)), hex(&bytes), "{}", signature.text());
        Ok(())
    });
    checked.unwrap();
}
