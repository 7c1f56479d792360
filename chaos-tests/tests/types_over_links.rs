//! Every type of a function, resources included, means over links what it means in one component: the same probe says
//! the same through one, two and three hops as it says fused.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use chaos_tests::bundle::Bundle;
use chaos_tests::cluster::Cluster;
use chaos_tests::ctl::Ctl;

const RUN: [&str; 3] = ["invoke", "types/probe", "weft:examples/probe@1.0.0#run()"];
const TRAP: [&str; 3] = ["invoke", "types/probe", "weft:examples/probe@1.0.0#trap()"];
const MEMBERS: [(&str, &str); 4] =
    [("probe", "probe"), ("first", "pass"), ("second", "pass"), ("echo", "echo")];

/// The graph with each member on its node, in the order of the calls.
fn placed(nodes: [&str; 4]) -> Bundle {
    MEMBERS.iter().zip(nodes).fold(Bundle::graph("types"), |bundle, ((member, file), node)| {
        let plain = format!("{member}: {{source: ./build/{file}.wasm}}");
        let bound =
            format!("{member}: {{source: ./build/{file}.wasm, placement: {{require: {{node: {node}}}}}}}");
        bundle.with(&plain, &bound)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_says_the_same_however_far_its_provider_is() {
    let cluster = Cluster::start_nodes(3).await;
    let (api, ctl) = (cluster.api(), Ctl::new(&cluster));
    api.deploy_and_wait(&placed(["n1"; 4])).await;
    let fused = ctl.done(&RUN).await;
    let trapped = ctl.run(&TRAP).await;
    assert!(trapped.code == 1 && trapped.stderr.contains("component_failed"), "{trapped:?}");
    // All that was made is dropped at the provider.
    let made = 1 + 3 + 1 + 1 + 1 + 100;
    assert!(fused.contains(&format!("values::dropped(): {made}")), "{fused}");
    // Lent, kept, split and joined, and the last of a ledger.
    let made = made + 1 + 3 + 1 + 2 + 1 + 1;
    let last = fused.rsplit("values::dropped(): ").next().unwrap_or_default();
    let digits = last.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(last.len());
    assert_eq!(last[..digits], made.to_string(), "{fused}");

    for nodes in [["n1", "n1", "n1", "n2"], ["n1", "n1", "n2", "n3"], ["n1", "n2", "n3", "n1"]] {
        api.deploy_and_wait(&placed(nodes)).await;
        let drawn = ctl.done(&["graph", "types"]).await;
        let remote = nodes.windows(2).filter(|pair| pair[0] != pair[1]).count();
        // A link for each of the two interfaces.
        assert_eq!(drawn.matches("(remote: ").count(), 2 * remote, "{nodes:?}: {drawn}");
        assert_eq!(ctl.done(&RUN).await, fused, "{nodes:?}");
        let trapped = ctl.run(&TRAP).await;
        assert!(trapped.code == 1 && trapped.stderr.contains("component_failed"), "{nodes:?}: {trapped:?}");
        // A trap at the end of the chain ends one call's instances, and no others.
        assert_eq!(ctl.done(&RUN).await, fused, "{nodes:?} after a trap");
    }
}
