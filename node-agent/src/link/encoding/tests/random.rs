//! What is written is read, by us and by a protobuf library that has only the schema.

use super::strategies::{calls, random};
use super::*;

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
        assert_eq!(hex(&rewritten(arguments, &bytes)), hex(&bytes), "{}", signature.text());

        let mut bytes = Vec::new();
        signature.encode_result(call.result.as_ref(), &mut session, &mut bytes).unwrap();
        assert_eq!(signature.decode_result(&bytes, &mut session).unwrap(), call.result);
        assert_eq!(hex(&rewritten(result, &bytes)), hex(&bytes), "{}", signature.text());
        Ok(())
    });
    checked.unwrap();
}
