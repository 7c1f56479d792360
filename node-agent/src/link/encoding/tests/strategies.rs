//! Random functions, and values of their types.

use std::time::{SystemTime, UNIX_EPOCH};

use model::link::FLAGS_MAX;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop};
use proptest::prop_oneof;
use proptest::strategy::BoxedStrategy;
use proptest::test_runner::{RngSeed, TestRunner};
use wasmtime::component::{ResourceAny, Val};

use super::*;

/// How deep a random type is, how many types it has, and how many a record or variant of it has, about.
const DEPTH: u32 = 4;
const SIZE: u32 = 24;
const BREADTH: u32 = 5;

/// A function, arguments for it, and a result.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) signature: Signature,
    pub(super) arguments: Vec<Val>,
    pub(super) result: Option<Val>,
}

/// Runs a random test; its seed is printed first, and `PROPTEST_RNG_SEED` repeats one.
#[allow(clippy::print_stdout, reason = "the seed of a test that fails")]
pub(super) fn random(cases: u32) -> TestRunner {
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let seed = match config.rng_seed {
        RngSeed::Fixed(seed) => seed,
        RngSeed::Random => SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos().into(),
    };
    println!("seed: PROPTEST_RNG_SEED={seed}");
    TestRunner::new(ProptestConfig { rng_seed: RngSeed::Fixed(seed), ..config })
}

pub(super) fn calls(session: &Session) -> impl Strategy<Value = Call> + use<> {
    let handles = session.handles.clone();
    let result = prop::option::of(shapes());
    (prop::collection::vec(shapes(), 0..4), result).prop_flat_map(move |(parameters, result)| {
        let arguments: Vec<_> = parameters.iter().map(|shape| values(shape, &handles)).collect();
        let value = match &result {
            Some(shape) => values(shape, &handles).prop_map(Some).boxed(),
            None => Just(None).boxed(),
        };
        let parameters = numbered('p', parameters.len()).into_iter().zip(parameters);
        let parameters = parameters.map(|(name, shape)| Field { name, shape }).collect();
        let signature = Signature::new(false, parameters, result);
        (Just(signature), arguments, value).prop_map(|(signature, arguments, result)| Call {
            signature,
            arguments,
            result,
        })
    })
}

fn numbered(letter: char, count: usize) -> Vec<Arc<str>> {
    (1..=count).map(|number| format!("{letter}-{number}").into()).collect()
}

fn shapes() -> impl Strategy<Value = Shape> {
    let scalars = prop::sample::select(vec![
        Shape::Bool,
        Shape::S8,
        Shape::U8,
        Shape::S16,
        Shape::U16,
        Shape::S32,
        Shape::U32,
        Shape::S64,
        Shape::U64,
        Shape::F32,
        Shape::F64,
        Shape::Char,
        Shape::String,
        Shape::Bytes,
    ]);
    let enums = (1..40_usize).prop_map(|count| Shape::Enum(Names::new(numbered('e', count))));
    let flags = (1..=FLAGS_MAX).prop_map(|count| Shape::Flags(Names::new(numbered('f', count))));
    let handles = (0..2_usize, any::<bool>()).prop_map(|(resource, owned)| {
        Shape::Handle(Handle { resource: Kind::Provider(resource), name: "r".into(), owned })
    });
    let leaves = prop_oneof![6 => scalars, 1 => enums, 1 => flags, 1 => handles];
    leaves.prop_recursive(DEPTH, SIZE, BREADTH, |inner| {
        let several = || prop::collection::vec(inner.clone(), 1..BREADTH as usize);
        let payloads = prop::collection::vec(prop::option::of(inner.clone()), 1..BREADTH as usize);
        let maybe = || prop::option::of(inner.clone().prop_map(Box::new));
        prop_oneof![
            inner.clone().prop_map(|element| match element {
                Shape::U8 => Shape::Bytes,
                element => list(element),
            }),
            inner.clone().prop_map(option),
            several().prop_map(|shapes| {
                let named = numbered('r', shapes.len()).into_iter().zip(shapes);
                Shape::Record(named.map(|(name, shape)| Field { name, shape }).collect())
            }),
            several().prop_map(tuple),
            payloads.prop_map(|payloads| {
                let names = Names::new(numbered('c', payloads.len()));
                Shape::Variant(Variant { names, payloads: payloads.into() })
            }),
            (maybe(), maybe()).prop_map(|(ok, err)| Shape::Result { ok, err }),
        ]
    })
}

fn values(shape: &Shape, handles: &[ResourceAny]) -> BoxedStrategy<Val> {
    match shape {
        Shape::Bool => any::<bool>().prop_map(Val::Bool).boxed(),
        Shape::S8 => any::<i8>().prop_map(Val::S8).boxed(),
        Shape::U8 => any::<u8>().prop_map(Val::U8).boxed(),
        Shape::S16 => any::<i16>().prop_map(Val::S16).boxed(),
        Shape::U16 => any::<u16>().prop_map(Val::U16).boxed(),
        Shape::S32 => any::<i32>().prop_map(Val::S32).boxed(),
        Shape::U32 => any::<u32>().prop_map(Val::U32).boxed(),
        Shape::S64 => any::<i64>().prop_map(Val::S64).boxed(),
        Shape::U64 => any::<u64>().prop_map(Val::U64).boxed(),
        // Of any bits: numbers that are none, too.
        Shape::F32 => any::<u32>().prop_map(|bits| Val::Float32(f32::from_bits(bits))).boxed(),
        Shape::F64 => any::<u64>().prop_map(|bits| Val::Float64(f64::from_bits(bits))).boxed(),
        Shape::Char => any::<char>().prop_map(Val::Char).boxed(),
        Shape::String => any::<String>().prop_map(Val::String).boxed(),
        Shape::Bytes => {
            let bytes = prop::collection::vec(any::<u8>(), 0..200);
            bytes.prop_map(|bytes| Val::List(bytes.into_iter().map(Val::U8).collect())).boxed()
        }
        Shape::List(element) => {
            prop::collection::vec(values(element, handles), 0..6).prop_map(Val::List).boxed()
        }
        Shape::Record(fields) => {
            let names: Vec<String> = fields.iter().map(|field| field.name.to_string()).collect();
            let members: Vec<_> = fields.iter().map(|field| values(&field.shape, handles)).collect();
            members.prop_map(move |values| Val::Record(names.iter().cloned().zip(values).collect())).boxed()
        }
        Shape::Tuple(items) => {
            let members: Vec<_> = items.iter().map(|item| values(item, handles)).collect();
            members.prop_map(Val::Tuple).boxed()
        }
        Shape::Variant(variant) => {
            let variant = variant.clone();
            let handles = handles.to_vec();
            (0..variant.payloads.len())
                .prop_flat_map(move |index| {
                    let name = variant.names.get(index).unwrap().to_string();
                    let payload = payloads(variant.payloads[index].as_ref(), &handles);
                    payload.prop_map(move |payload| Val::Variant(name.clone(), payload))
                })
                .boxed()
        }
        Shape::Enum(names) => {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            prop::sample::select(names).prop_map(Val::Enum).boxed()
        }
        Shape::Option(inner) => {
            prop::option::of(values(inner, handles).prop_map(Box::new)).prop_map(Val::Option).boxed()
        }
        Shape::Result { ok, err } => {
            let ok = payloads(ok.as_deref(), handles).prop_map(Ok);
            let err = payloads(err.as_deref(), handles).prop_map(Err);
            prop_oneof![ok, err].prop_map(Val::Result).boxed()
        }
        Shape::Flags(names) => {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            let all = names.len();
            prop::sample::subsequence(names, 0..=all).prop_map(Val::Flags).boxed()
        }
        Shape::Handle(_) => prop::sample::select(handles.to_vec()).prop_map(Val::Resource).boxed(),
    }
}

fn payloads(shape: Option<&Shape>, handles: &[ResourceAny]) -> BoxedStrategy<Option<Box<Val>>> {
    match shape {
        Some(shape) => values(shape, handles).prop_map(|value| Some(Box::new(value))).boxed(),
        None => Just(None).boxed(),
    }
}
