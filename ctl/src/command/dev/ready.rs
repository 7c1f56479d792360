//! What a run says once it is ready: where everything listens, and which nodes of an earlier run are not started.

use std::net::SocketAddr;

use super::folder::RunningNode;
use super::node_name;
use crate::render::table::Table;

/// Where everything listens: one line for one node, below it one for each of several.
pub(super) fn addresses(nodes: &[RunningNode], api: SocketAddr) -> String {
    if let [node] = nodes {
        return format!("ready http://{} (ingress)  https://{api} (API)\n", node.ingress_address);
    }
    let mut table = Table::new(["NODE", "INGRESS", "AGENT"]);
    for node in nodes {
        let ingress = format!("http://{}", node.ingress_address);
        table.row(vec![node.name.clone(), ingress, node.api_address.to_string()]);
    }
    format!("ready https://{api} (API)\n{}", table.render(None))
}

/// That nodes are not started whose data is there, if there are any.
pub(super) fn kept(numbers: &[u16]) -> Option<String> {
    let last = numbers.last()?;
    let names: Vec<String> = numbers.iter().map(|number| node_name(*number)).collect();
    let (are, their, them) = match numbers.len() {
        1 => ("is", "its", "it"),
        _ => ("are", "their", "them"),
    };
    let names = names.join(", ");
    Some(format!(
        "{names} of an earlier run {are} not started, and {their} data is left alone: --nodes {last} starts {them}"
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn node(number: u16) -> RunningNode {
        let address = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        RunningNode {
            name: node_name(number),
            pid: 1,
            api_address: address(40_000 + number),
            ingress_address: address(7_999 + number),
        }
    }

    #[test]
    fn every_node_is_listed_with_its_addresses() {
        let api = "127.0.0.1:7100".parse().unwrap();
        assert_eq!(
            addresses(&[node(1)], api),
            "ready http://127.0.0.1:8000 (ingress)  https://127.0.0.1:7100 (API)\n"
        );
        insta::assert_snapshot!(addresses(&[node(1), node(2), node(10)], api), @"
        ready https://127.0.0.1:7100 (API)
        NODE  INGRESS                AGENT
        n1    http://127.0.0.1:8000  127.0.0.1:40001
        n2    http://127.0.0.1:8001  127.0.0.1:40002
        n10   http://127.0.0.1:8009  127.0.0.1:40010
        ");
    }

    #[test]
    fn what_is_not_started_is_named_with_how_to_start_it() {
        assert_eq!(kept(&[]), None);
        assert_eq!(
            kept(&[2]).unwrap(),
            "n2 of an earlier run is not started, and its data is left alone: --nodes 2 starts it"
        );
        assert_eq!(
            kept(&[2, 3]).unwrap(),
            "n2, n3 of an earlier run are not started, and their data is left alone: --nodes 3 starts them"
        );
    }
}
