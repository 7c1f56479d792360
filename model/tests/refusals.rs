//! What constructors refuse: a value of the model never has to be checked again.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]
#![allow(clippy::disallowed_types, reason = "a seed comes from the clock")]

use std::fmt::{Debug, Display};
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use model::digest::Digest;
use model::egress::EgressRule;
use model::id::{ClusterId, GraphKey, ID_MAX_BYTES, IdError, RequestId, Uid};
use model::interface::{InterfaceError, InterfaceName, InterfacePattern, Track};
use model::name::{ComponentName, GraphName, NAME_MAX_BYTES, NameError, NamespaceName, NodeName, PolicyName};
use model::route::{Host, PathPrefix};
use model::unit::{ByteSize, format_duration, parse_duration};
use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest};
use proptest::test_runner::{RngSeed, TestCaseResult};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The settings of a random test; its seed is printed first, and `PROPTEST_RNG_SEED` repeats one.
#[allow(clippy::print_stdout, reason = "the seed of a test that fails")]
fn random(cases: u32) -> ProptestConfig {
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let seed = match config.rng_seed {
        RngSeed::Fixed(seed) => seed,
        RngSeed::Random => SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos().into(),
    };
    println!("seed: PROPTEST_RNG_SEED={seed}");
    ProptestConfig { rng_seed: RngSeed::Fixed(seed), ..config }
}

/// What is read is written the same way, as text and as JSON; what is refused as text is refused as JSON too, unless
/// Weft makes such texts itself.
fn is_sound<T>(text: &str, made_texts: bool) -> TestCaseResult
where
    T: FromStr + Display + Clone + PartialEq + Debug + Serialize + DeserializeOwned,
    T::Err: Display,
{
    let json = serde_json::to_string(text).unwrap();
    match text.parse::<T>() {
        Ok(value) => {
            let shown = value.to_string();
            prop_assert_eq!(shown.parse::<T>().ok(), Some(value.clone()), "{} is written {}", text, shown);
            let again: T = serde_json::from_str(&serde_json::to_string(&value).unwrap()).unwrap();
            prop_assert_eq!(again, value);
        }
        Err(error) => {
            let shown = error.to_string();
            prop_assert!(shown.chars().count() < 300, "{shown}");
            prop_assert!(!shown.chars().any(char::is_control), "{shown:?}");
            prop_assert!(made_texts || serde_json::from_str::<T>(&json).is_err(), "{text:?} as JSON");
        }
    }
    Ok(())
}

fn all_are_sound(text: &str) -> TestCaseResult {
    is_sound::<ComponentName>(text, true)?;
    is_sound::<GraphName>(text, true)?;
    is_sound::<NamespaceName>(text, true)?;
    is_sound::<PolicyName>(text, true)?;
    is_sound::<NodeName>(text, true)?;
    is_sound::<GraphKey>(text, false)?;
    is_sound::<Digest>(text, false)?;
    is_sound::<EgressRule>(text, false)?;
    is_sound::<InterfaceName>(text, false)?;
    is_sound::<InterfacePattern>(text, false)?;
    is_sound::<Host>(text, false)?;
    is_sound::<PathPrefix>(text, false)?;
    if let Ok(size) = text.parse::<ByteSize>() {
        prop_assert_eq!(size.to_string().parse::<ByteSize>().ok().or(Some(ByteSize(0))), Some(size));
    }
    if let Ok(duration) = parse_duration(text) {
        prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
    }
    Ok(())
}

proptest! {
    #![proptest_config(random(1_024))]

    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        all_are_sound(&text)?;
    }

    #[test]
    fn any_text_of_meaning_characters_is_read_or_refused(text in r"[a-cA-C0-9:/@.*\-+\[\]~ %?#_]{0,24}") {
        all_are_sound(&text)?;
    }

    #[test]
    fn any_interface_is_read(text in r"[a-z]{1,3}:[a-z]{1,3}/([a-z]{1,3}|\*)(@[0-9]{1,2}(\.[0-9]{1,2}(\.[0-9]{1,2}(-rc\.1)?)?)?)?") {
        all_are_sound(&text)?;
    }

    #[test]
    fn any_origin_is_read(text in r"https?://([a-z0-9]{1,3}(\.[a-z0-9]{1,3}){0,3}|\[[0-9a-f:.]{2,12}\])(:[0-9]{1,6})?/?") {
        all_are_sound(&text)?;
    }

    #[test]
    fn any_size_and_duration_is_read(text in r"[0-9]{1,20}(Ki|Mi|Gi|ms|s|m|h|)") {
        all_are_sound(&text)?;
    }

    /// A pattern with a full version names what stands on the same track, and nothing else.
    #[test]
    fn patterns_name_tracks(a in (0_u64..3, 0_u64..3, 0_u64..3), b in (0_u64..3, 0_u64..3, 0_u64..3)) {
        let text = |(major, minor, patch): (u64, u64, u64)| format!("a:b/c@{major}.{minor}.{patch}");
        let (left, right): (InterfaceName, InterfaceName) =
            (text(a).parse().unwrap(), text(b).parse().unwrap());
        let pattern: InterfacePattern = text(a).parse().unwrap();
        prop_assert_eq!(pattern.matches(&right), left.same_track(&right));
        prop_assert_eq!(left.same_track(&right), right.same_track(&left));
        prop_assert_eq!(left.same_track(&right), left.track() == right.track());
    }
}

#[test]
fn names_of_people_and_of_weft() {
    let longest = "n".repeat(NAME_MAX_BYTES);
    assert!(ComponentName::new(longest.clone()).is_ok());
    assert_eq!(ComponentName::new(format!("{longest}n")).unwrap_err(), NameError::TooLong { length: 64 });
    let (app, pii): (ComponentName, PolicyName) = ("app".parse().unwrap(), "pii".parse().unwrap());
    let first = ComponentName::interposed(&app, &pii, 0).unwrap();
    assert_eq!(first.as_str(), "app--pii");
    assert_eq!(ComponentName::interposed(&app, &pii, 2).unwrap().as_str(), "app--pii-2");
    // Nobody can write it, and it is read where it was stored.
    assert_eq!(first.as_str().parse::<ComponentName>(), Err(NameError::Reserved));
    assert_eq!(serde_json::from_str::<ComponentName>("\"app--pii\"").unwrap(), first);
    let long = ComponentName::interposed(&longest.parse().unwrap(), &longest.parse().unwrap(), 999).unwrap();
    assert_eq!(serde_json::from_str::<ComponentName>(&serde_json::to_string(&long).unwrap()).unwrap(), long);
    assert!(serde_json::from_str::<ComponentName>(&format!("\"{}\"", "n".repeat(190))).is_err());
    assert!(serde_json::from_str::<ComponentName>("\"a/b\"").is_err());
}

#[test]
fn a_look_alike_is_told_by_its_number() {
    let error = "аpp".parse::<ComponentName>().unwrap_err().to_string();
    assert!(error.contains("U+0430"), "{error}");
    let error = "a\u{1b}[31m".parse::<ComponentName>().unwrap_err().to_string();
    assert!(error.contains("U+001B") && !error.contains('\u{1b}'), "{error:?}");
}

#[test]
fn ids_are_short_and_printable() {
    assert_eq!(RequestId::new(""), Err(IdError::Length { length: 0 }));
    let longest = "x".repeat(ID_MAX_BYTES);
    assert!(Uid::new(longest.clone()).is_ok());
    assert_eq!(Uid::new(format!("{longest}x")), Err(IdError::Length { length: ID_MAX_BYTES + 1 }));
    for wrong in ["a b", "a\n", "é", "\0"] {
        assert_eq!(ClusterId::new(wrong), Err(IdError::Character), "{wrong:?}");
        let json = serde_json::to_string(wrong).unwrap();
        assert!(serde_json::from_str::<ClusterId>(&json).is_err(), "{wrong:?}");
    }
}

#[test]
fn a_graph_has_a_namespace_and_a_name() {
    let key: GraphKey = "crm".parse().unwrap();
    assert_eq!(key.to_string(), "default/crm");
    assert_eq!("sales/crm".parse::<GraphKey>().unwrap().to_string(), "sales/crm");
    for wrong in ["", "/", "a/", "/a", "a/b/c", "A/b", "../a", "a/b--c"] {
        assert!(wrong.parse::<GraphKey>().is_err(), "{wrong:?}");
    }
}

#[test]
fn interfaces_and_versions() {
    for wrong in
        ["", "a", "a:b", "a/b", "a:b/", ":b/c", "a:/c", "a:b/c@", "a:b/c@1", "a:b/c@1.0.0@2.0.0", "a:b/*"]
    {
        assert!(wrong.parse::<InterfaceName>().is_err(), "{wrong:?}");
    }
    for wrong in
        ["a:b/c@", "a:b/c@x", "a:b/c@+1", "a:b/c@01", "a:b/c@1.", "a:b/c@1.2.3.4", "a:b/c@-1", "a:b/c@1 "]
    {
        assert!(matches!(wrong.parse::<InterfacePattern>(), Err(InterfaceError::Version { .. })), "{wrong:?}");
    }
    let track = |text: &str| text.parse::<InterfaceName>().unwrap().track();
    assert_eq!(track("a:b/c"), Track::Unversioned);
    assert_eq!(track("a:b/c@2.1.0").to_string(), "@2");
    assert_eq!(track("a:b/c@0.2.1").to_string(), "@0.2");
    assert_eq!(track("a:b/c@0.0.3").to_string(), "@0.0.3");
    assert_eq!(track("a:b/c@1.0.0-rc.1").to_string(), "@1.0.0-rc.1");
    // What people wrote is echoed in short.
    let error = format!("a:b/c@{}", "9".repeat(1_000)).parse::<InterfacePattern>().unwrap_err().to_string();
    assert!(error.len() < 120, "{error}");
}

#[test]
fn a_pattern_without_a_version_names_every_version() {
    let all: InterfacePattern = "a:b/c".parse().unwrap();
    for name in ["a:b/c", "a:b/c@1.0.0", "a:b/c@0.1.0-rc.1"] {
        assert!(all.matches(&name.parse().unwrap()), "{name}");
    }
    let versioned: InterfacePattern = "a:b/*@1".parse().unwrap();
    assert!(versioned.matches(&"a:b/d@1.9.0".parse().unwrap()));
    for other in ["a:b/c", "a:b/c@2.0.0", "a:b/c@1.0.0-rc.1", "a:x/c@1.0.0", "x:b/c@1.0.0"] {
        assert!(!versioned.matches(&other.parse().unwrap()), "{other}");
    }
}

#[test]
fn an_egress_rule_allows_its_one_origin() {
    use model::egress::Scheme;
    let rule: EgressRule = "https://API.example.com".parse().unwrap();
    assert!(rule.allows(Scheme::Https, "api.example.com", 443));
    assert!(rule.allows(Scheme::Https, "Api.Example.Com", 443));
    assert!(!rule.allows(Scheme::Http, "api.example.com", 443));
    assert!(!rule.allows(Scheme::Https, "api.example.com", 8443));
    assert!(!rule.allows(Scheme::Https, "evil.api.example.com", 443));
    assert!(!rule.allows(Scheme::Https, "api.example.com.", 443));
    let six: EgressRule = "http://[::1]:9000".parse().unwrap();
    assert!(six.allows(Scheme::Http, "[::1]", 9000) && six.allows(Scheme::Http, "::1", 9000));
}
