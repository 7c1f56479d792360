//! Join tokens: read as they were written, refused where they are damaged, and silent about their secret.

use proptest::prelude::*;
use trust::token::JoinTokenError;
use trust::{Fingerprint, JoinToken};

/// How much of a secret somebody could learn by guessing.
const GUESSED: usize = 16;

#[track_caller]
fn keeps_the_secret(shown: &str, text: &str) {
    let secret = text.split('.').nth(1).unwrap_or_default();
    for window in secret.as_bytes().windows(GUESSED) {
        let window = str::from_utf8(window).unwrap_or("\0");
        assert!(!shown.contains(window), "{shown}");
    }
}

fn token() -> impl Strategy<Value = String> {
    let bytes = any::<[u8; 32]>();
    (bytes, bytes).prop_map(|(secret, authority)| {
        format!("weft-join-v1.{}.{}", hex::encode(secret), hex::encode(authority))
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read(text in token(), before in "[ \t\n]{0,3}", after in "[ \r\n]{0,3}") {
        let token: JoinToken = format!("{before}{text}{after}").parse().unwrap();
        prop_assert!(*token.reveal() == text);
        prop_assert_eq!(token.authority().to_string(), text.rsplit('.').next().unwrap());
        keeps_the_secret(&format!("{token:?} {}", token.digest()), &text);
    }

    #[test]
    fn a_changed_character_is_refused_or_another_token(text in token(), at in any::<prop::sample::Index>(), to in any::<char>()) {
        let mut characters: Vec<char> = text.chars().collect();
        *at.get_mut(&mut characters) = to;
        let changed: String = characters.into_iter().collect();
        match changed.parse::<JoinToken>() {
            Ok(token) => prop_assert!(*token.reveal() == changed.trim()),
            Err(error) => keeps_the_secret(&format!("{error} {error:?}"), &text),
        }
    }

    #[test]
    fn a_cut_token_is_refused(text in token(), length in any::<prop::sample::Index>()) {
        let cut = &text[..length.index(text.len())];
        let error = cut.parse::<JoinToken>().err();
        prop_assert!(error.is_some());
    }

    #[test]
    fn any_text_is_read_or_refused(text in "(weft-join-v1)?(\\.\\PC{0,70}){0,4}") {
        if let Ok(token) = text.parse::<JoinToken>() {
            prop_assert!(*token.reveal() == text.trim());
        }
    }
}

#[test]
fn wrong_spellings_are_told_what_is_wrong() {
    let part = "0a".repeat(32);
    let check = |text: String, error: JoinTokenError, sentence: &str| {
        let found = text.parse::<JoinToken>().unwrap_err();
        assert_eq!((&found, found.to_string().as_str()), (&error, sentence));
    };
    let version = "a join token begins with `weft-join-v1.`";
    check(String::new(), JoinTokenError::Version, version);
    check(format!("{part}.{part}"), JoinTokenError::Version, version);
    check(format!("weft-join-v2.{part}.{part}"), JoinTokenError::Version, version);
    check(format!("WEFT-JOIN-V1.{part}.{part}"), JoinTokenError::Version, version);
    check(format!("weft-join-v1:{part}:{part}"), JoinTokenError::Version, version);
    let parts = "a join token has three parts with a dot between them; is a part of it missing?";
    check("weft-join-v1".to_owned(), JoinTokenError::Parts, parts);
    check(format!("weft-join-v1.{part}"), JoinTokenError::Parts, parts);
    check(format!("weft-join-v1.{part}.{part}."), JoinTokenError::Parts, parts);
    let secret = "the second part of a join token has 64 lower-case hex digits";
    check(format!("weft-join-v1..{part}"), JoinTokenError::Secret, secret);
    check(format!("weft-join-v1.{}.{part}", part.to_uppercase()), JoinTokenError::Secret, secret);
    check(format!("weft-join-v1.{part}0.{part}"), JoinTokenError::Secret, secret);
    check(format!("weft-join-v1.{} .{part}", &part[1..]), JoinTokenError::Secret, secret);
    let authority = "the third part of a join token has 64 lower-case hex digits";
    check(format!("weft-join-v1.{part}."), JoinTokenError::Authority, authority);
    check(format!("weft-join-v1.{part}.{}", &part[..62]), JoinTokenError::Authority, authority);
    check(format!("weft-join-v1.{part}.{part}\u{e9}"), JoinTokenError::Authority, authority);
}

#[test]
fn a_token_is_known_by_its_digest_alone() {
    let authority = Fingerprint::of(b"authority");
    let token = JoinToken::generate(authority).unwrap();
    let again: JoinToken = token.reveal().parse().unwrap();
    assert_eq!((again.digest(), again.authority()), (token.digest(), authority));
    assert_ne!(JoinToken::generate(authority).unwrap().digest(), token.digest());
}
