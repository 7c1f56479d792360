//! The shape of `graph.yaml`: parser, JSON Schema and documentation in one.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::condition::ConditionValue;
use crate::document::Placed;

/// A graph of WebAssembly components: the components, the links between their imports and exports, and how requests
/// reach them.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[schemars(title = "graph.yaml")]
pub struct GraphFile {
    /// The version of this format: 1.
    #[schemars(extend("const" = 1))]
    pub version: Placed<u32>,
    /// The graph's name, unique in its namespace.
    pub graph: Placed<String>,
    /// The namespace; `default` if left out.
    pub namespace: Option<Placed<String>>,
    /// What policies select on.
    #[serde(default)]
    pub labels: BTreeMap<String, Placed<String>>,
    /// `inferred` (an import with one possible provider is linked to it) or `explicit` (every link is written out).
    #[schemars(extend("enum" = ["inferred", "explicit"]))]
    pub wiring: Option<Placed<String>>,
    /// How requests reach the graph.
    #[serde(default)]
    pub ingress: Vec<Placed<IngressEntry>>,
    /// The components by name.
    pub components: Placed<BTreeMap<String, Placed<ComponentEntry>>>,
    /// What the node's host offers to this graph, by name; components and capabilities share their names.
    #[serde(default)]
    pub capabilities: BTreeMap<String, Placed<CapabilityEntry>>,
    /// The links that are written out.
    #[serde(default)]
    pub links: Vec<Placed<LinkEntry>>,
    /// How a new revision takes over from the one before. Without this section it replaces the one before at once on each
    /// node where it answers, losing no request. With it, it runs beside the one before as a candidate and answers a share
    /// of the requests of the ingress, step by step, and all of them after the last step. One that does not come up, or
    /// that fails more than the one before as surely as statistics can tell, is given up by itself: the one before answers
    /// everything again. The first revision of a graph has nothing to take over from and answers everything at once.
    pub rollout: Option<RolloutEntry>,
    /// Whose reserved instances come first on nodes that have not room for those of all graphs: the higher, of 0 to 100; 50
    /// if left out. Graphs of a lower priority go to other nodes for those of a higher one or, where none has room, go on
    /// serving where they are without all of what is reserved for them.
    #[schemars(range(min = 0, max = 100))]
    pub priority: Option<Placed<u32>>,
}

/// One way in.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct IngressEntry {
    /// HTTP requests.
    pub http: Option<HttpEntry>,
    /// The component that exports `wasi:http/incoming-handler`.
    pub to: Placed<String>,
}

/// Which HTTP requests.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct HttpEntry {
    /// The host; any that no other route names if left out.
    pub host: Option<Placed<String>>,
    /// The path prefix, by whole segments; `/` if left out.
    pub path: Option<Placed<String>>,
}

/// A component.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ComponentEntry {
    /// The wasm file, relative to the manifest.
    pub source: Placed<String>,
    /// `sha256:` and 64 hex digits; the file must have it.
    #[schemars(regex(pattern = "^sha256:[0-9a-f]{64}$"))]
    pub digest: Option<Placed<String>>,
    /// What policies select on, besides the graph's labels.
    #[serde(default)]
    pub labels: BTreeMap<String, Placed<String>>,
    /// Read by the component through `wasi:config/store`.
    #[serde(default)]
    pub config: BTreeMap<String, String>,
    /// Read by the component through `fermyon:spin/variables`.
    #[serde(default)]
    pub variables: BTreeMap<String, String>,
    /// Where its HTTP requests may go: origins, as in `https://api.example.com`. Everything else is refused.
    #[serde(default)]
    pub egress: Vec<Placed<String>>,
    /// How much it may use.
    #[serde(default)]
    pub limits: LimitsEntry,
    /// How it is found out that it answers: before a revision takes over from the one before, and as often as it says.
    pub health: Option<Placed<HealthEntry>>,
    /// What becomes of it on a node that is cut off from the control plane: `serve` (it goes on serving there, though it may
    /// be placed on another node meanwhile) or `stop` (what of its graph is on that node stops serving before it can be
    /// placed on another); `serve` if left out.
    #[schemars(extend("enum" = ["serve", "stop"]))]
    pub on_isolation: Option<Placed<String>>,
    /// On how many nodes it runs.
    #[serde(default)]
    pub scale: ScaleEntry,
    /// Where it may run.
    #[serde(default)]
    pub placement: PlacementEntry,
}

/// How it is found out that a component answers: `http` or `call`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct HealthEntry {
    /// The path of a GET, which must be answered with a status from 200 to 399.
    #[schemars(regex(pattern = "^/"))]
    pub http: Option<Placed<String>>,
    /// A function of the component without parameters, `ns:pkg/interface#function`, which must return neither an error
    /// nor `false`.
    #[schemars(regex(pattern = "^[^#]+#[^#]+$"))]
    pub call: Option<Placed<String>>,
    /// How often it is asked while it serves: `1s` to `1h`; only before a revision takes over if left out. Where it fails, it
    /// is not asked as long as it passes on another node.
    #[schemars(regex(pattern = "^[0-9]+(ms|s|m|h)$"))]
    pub every: Option<Placed<String>>,
    /// After so many failures in a row it fails on a node: 1 to 100; 3 if left out. One that passes ends that.
    #[schemars(range(min = 1, max = 100))]
    pub failures: Option<Placed<u32>>,
    /// How long it may take: `10ms` to `1m`; `10s` if left out. The component's deadline ends it earlier.
    #[schemars(regex(pattern = "^[0-9]+(ms|s|m|h)$"))]
    pub timeout: Option<Placed<String>>,
}

/// On how many nodes a component runs: on a number of them, or on as many as its calls need. Each node makes as many
/// instances as there are requests.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ScaleEntry {
    /// How many nodes: 1 to 100; 1 if left out. They are in as many zones as there are. A component that must be on one
    /// node with others runs on as many as any of these asks for; what keeps data runs on one.
    #[schemars(range(min = 1, max = 100))]
    pub replicas: Option<Placed<u32>>,
    /// In place of `replicas`: whether it runs on each node that is what it requires and has no taint that it does not
    /// tolerate, up to 1000. A node that joins gets it, and one that is lost is not replaced.
    pub each_node: Option<Placed<bool>>,
    /// The fewest nodes, of a component that is scaled by its calls: 1 to `max`; 1 if left out. Nodes hold no instance of
    /// what nobody asks for.
    #[schemars(range(min = 1, max = 100))]
    pub min: Option<Placed<u32>>,
    /// The most nodes, of a component that is scaled by its calls: 1 to 100. With it goes `concurrency`, and no `replicas`.
    #[schemars(range(min = 1, max = 100))]
    pub max: Option<Placed<u32>>,
    /// The calls under way that are aimed at on each node: 1 to 100000. There are more nodes at once where more are under
    /// way, at most twice as many at one time, and fewer once these have been enough for `down-after`. A call is under way
    /// as long as it has an instance: a request, a session of a link, and what they call on the same node.
    #[schemars(range(min = 1, max = 100000))]
    pub concurrency: Option<Placed<u32>>,
    /// How long fewer nodes must have been enough before there are fewer: `1s` to `24h`; `60s` if left out.
    #[schemars(regex(pattern = "^[0-9]+(ms|s|m|h)$"))]
    pub down_after: Option<Placed<String>>,
    /// The instances that each of its nodes keeps for it, with all that they call there: 1 to 10000; none if left out. Others
    /// do not get these, however much they are asked, and it gets more where there is room. At most three quarters of a node
    /// are reserved.
    #[schemars(range(min = 1, max = 10000))]
    pub reserved: Option<Placed<u32>>,
}

/// Where a component or a capability may run.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PlacementEntry {
    /// What its node must be like: labels, each with its value or a condition, as in `zone: {in: [eu-1, eu-2]}`. Every node
    /// has by itself the label `node`, its name, and the attributes `weft.version`, `weft.cpus` and `weft.memory`.
    #[serde(default)]
    pub require: BTreeMap<String, Placed<ConditionValue>>,
    /// What nodes are like that go before others, as far as there is a choice: each condition that holds of a node counts
    /// one for it. What is placed stays where it is.
    #[serde(default)]
    pub prefer: BTreeMap<String, Placed<ConditionValue>>,
    /// What nodes are like that go after others, as far as there is a choice: each condition that holds of a node counts
    /// one against it. What is placed stays where it is.
    #[serde(default)]
    pub avoid: BTreeMap<String, Placed<ConditionValue>>,
    /// Taints that do not keep it off a node. All that must be on one node must tolerate the taints of that node.
    #[serde(default)]
    pub tolerate: BTreeMap<String, Placed<String>>,
}

/// How much a component may use.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LimitsEntry {
    /// Memory of one instance: `64Ki` to `128Mi`; `64Mi` if left out.
    #[schemars(regex(pattern = "^[0-9]+(Ki|Mi|Gi)$"))]
    pub memory: Option<Placed<String>>,
    /// The longest one call may take: up to `10m`; `10s` if left out.
    #[schemars(regex(pattern = "^[0-9]+(ms|s|m|h)$"))]
    pub deadline: Option<Placed<String>>,
}

/// A capability.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CapabilityEntry {
    /// `sqlite`.
    #[serde(rename = "type")]
    #[schemars(extend("enum" = ["sqlite"]))]
    pub kind: Placed<String>,
    /// The name a guest opens; `default` if left out.
    pub database: Option<Placed<String>>,
    /// An SQL script, relative to the manifest, that is run once when the database is created.
    pub seed: Option<Placed<String>>,
    /// Where it may be.
    #[serde(default)]
    pub placement: PlacementEntry,
}

/// A link.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LinkEntry {
    /// The importing component.
    pub from: Placed<String>,
    /// Its import: `ns:pkg/interface@version`; the version may be cut (`@2`) or left out.
    pub interface: Placed<String>,
    /// The component or capability that satisfies it.
    pub to: Placed<String>,
    /// `any` (the ends may be on two nodes), `same-node` or `same-instance` (on one node, fused); `any` if left out.
    #[schemars(extend("enum" = ["any", "same-node", "same-instance"]))]
    pub locality: Option<Placed<String>>,
    /// The longest one call to another node may take: `1ms` to `10m`; the caller's deadline ends it earlier.
    #[schemars(regex(pattern = "^[0-9]+(ms|s|m|h)$"))]
    pub timeout: Option<Placed<String>>,
    /// What becomes of a call that is lost on its way to another node.
    pub on_loss: Option<OnLossEntry>,
    /// Whether a call that was lost on its way may be made again, though it may have been done. Calls of a resource are
    /// not: it is gone with its provider.
    #[serde(default)]
    pub idempotent: bool,
}

/// What becomes of a call that is lost on its way to another node.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct OnLossEntry {
    /// The case of the function's error type to answer with; it holds nothing, or a string that says why. An error type
    /// that is a string says why by itself. Functions without such an error end their caller's instance.
    pub error: Placed<String>,
}

/// How a new revision takes over from the one before: by steps.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RolloutEntry {
    /// 1 to 20 steps, one after the other, the first one once the revision answers on all of its nodes. After the last one
    /// it answers everything, whatever that one's share was.
    #[schemars(length(min = 1, max = 20))]
    pub steps: Placed<Vec<StepEntry>>,
    /// How much larger the share of its requests that fail (with a status of 500 or more) may be than that of the revision
    /// before, since the step began: `0%` to `100%`, added to what fails of the other; `1%` if left out. More is a failure
    /// once chance is ruled out, which takes at least 10 requests. Of a revision before that answers fewer than 10 in the
    /// step it counts what it answered since this one is there.
    #[schemars(regex(pattern = r"^[0-9]{1,3}(\.[0-9])?%$"))]
    pub max_errors: Option<Placed<String>>,
    /// How long 95 of 100 requests may take, in percent of what they take of the revision before: `101%` to `10000%`, in
    /// whole percent; unbounded if left out. More is a failure once each of both has answered 100 requests in the step.
    #[schemars(regex(pattern = "^[0-9]+%$"))]
    pub max_latency: Option<Placed<String>>,
    /// How long it may take until it answers on all of its nodes, at first and after a change of the policies on it: `1s`
    /// to `24h`; `10m` if left out. Longer is a failure.
    #[schemars(regex(pattern = "^[0-9]+(ms|s|m|h)$"))]
    pub deadline: Option<Placed<String>>,
    /// What becomes of a revision that does not come up or does worse: `revert` (it is given up, and the one before answers
    /// everything again) or `pause` (it stays at its step until somebody promotes or reverts it); `revert` if left out.
    #[schemars(extend("enum" = ["revert", "pause"]))]
    pub on_failure: Option<Placed<String>>,
}

/// One step of a rollout.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct StepEntry {
    /// What the new revision answers of the requests: `0%` to `100%`, with at most one digit behind the point, and no less
    /// than at the step before. At `0%` it is up, and nobody gets to it.
    #[schemars(regex(pattern = r"^[0-9]{1,3}(\.[0-9])?%$"), example = "10%")]
    pub share: Placed<String>,
    /// How long, once it answers: `1ms` to `24h`, but never less than 3 s, or `until-promoted`: until somebody says that it
    /// goes on.
    #[schemars(
        regex(pattern = "^([0-9]+(ms|s|m|h)|until-promoted)$"),
        example = "10m",
        example = "until-promoted"
    )]
    pub hold: Placed<String>,
}
