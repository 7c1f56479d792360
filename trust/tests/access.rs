//! The table of methods and roles, held against the methods that there are.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;

use prost::Message as _;
use prost_types::FileDescriptorSet;
use trust::access::{OF_MEMBERS, OF_NODES, of_member, of_node};
use trust::{Access, Role};

fn methods() -> BTreeSet<String> {
    let ours = FileDescriptorSet::decode(proto::DESCRIPTORS).unwrap();
    let mut methods = BTreeSet::new();
    for file in ours.file {
        for service in &file.service {
            for method in &service.method {
                methods.insert(format!("/{}.{}/{}", file.package(), service.name(), method.name()));
            }
        }
    }
    methods
}

#[test]
fn every_method_is_in_a_table_and_every_line_is_a_method() {
    let methods = methods();
    assert!(methods.len() > 25, "{methods:?}");
    for method in &methods {
        let is_known = |table: &[(&str, Access)]| table.iter().any(|(path, _)| path == method);
        assert!(is_known(OF_MEMBERS) || is_known(OF_NODES), "{method} is in no table: nobody may call it");
    }
    for table in [OF_MEMBERS, OF_NODES] {
        for (path, _) in table {
            let is_common = path.starts_with("/grpc.health.v1.") || path.starts_with("/grpc.reflection.v1.");
            assert!(is_common || methods.contains(*path), "{path} is no method");
        }
        let paths: Vec<_> = table.iter().map(|(path, _)| *path).collect();
        assert!(paths.is_sorted(), "a line is twice there or out of order");
        assert_eq!(paths.iter().collect::<BTreeSet<_>>().len(), paths.len());
    }
}

/// Each method that a role, or nobody known, may call; all others are refused.
#[test]
fn roles_may_call_what_they_need_and_nothing_else() {
    let allowed = |table: fn(&str) -> Access, role: Option<Role>| -> BTreeSet<String> {
        let all = OF_MEMBERS.iter().chain(OF_NODES).map(|(path, _)| (*path).to_owned());
        all.filter(|path| table(path).allows(role)).collect()
    };
    let set = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect::<BTreeSet<_>>();
    let (health, join) = ("/grpc.health.v1.Health/Check", "/weft.trust.v1.Enrolment/Join");
    let join_as_member = "/weft.member.v1.Members/Join";
    let (hold, artifacts) = ("/weft.artifact.v1.Artifacts/Hold", "/weft.artifact.v1.Artifacts/Get");
    let heard = "/weft.node.v1.Nodes/Heard";
    let anyone = set(&[health, join, join_as_member]);
    assert_eq!(allowed(of_member, None), anyone);
    let consensus = ["Append", "Install", "Lead", "Propose", "ReadIndex", "Section", "Vote"];
    let consensus = consensus.map(|method| format!("/weft.member.v1.Consensus/{method}"));
    let mut of_members = anyone.clone();
    of_members.extend([hold, artifacts, heard].map(str::to_owned));
    of_members.extend(consensus.clone());
    assert_eq!(allowed(of_member, Some(Role::Member)), of_members);
    let renew = "/weft.trust.v1.Enrolment/Renew";
    let session = "/weft.node.v1.Nodes/Session";
    let mut of_a_node = anyone.clone();
    of_a_node.extend([renew, session, artifacts].map(str::to_owned));
    assert_eq!(allowed(of_member, Some(Role::Node)), of_a_node);
    let operator = allowed(of_member, Some(Role::Operator));
    // All but what acts for one node, or is between members.
    let mut others = set(&[renew, session, hold, heard]);
    others.extend(consensus);
    let all: BTreeSet<String> = OF_MEMBERS.iter().map(|(path, _)| (*path).to_owned()).collect();
    assert_eq!(operator, all.difference(&others).cloned().collect());

    assert_eq!(allowed(of_node, None), set(&[]));
    assert_eq!(allowed(of_node, Some(Role::Operator)), set(&[]));
    let links = set(&["/weft.link.v1.Links/Arrived", "/weft.link.v1.Links/Carry"]);
    assert_eq!(allowed(of_node, Some(Role::Node)), links);
    assert_eq!(allowed(of_node, Some(Role::Member)).len(), OF_NODES.len() - links.len());
    for table in [of_member as fn(&str) -> Access, of_node] {
        for path in
            ["", "/", "/weft.link.v1.Links/carry", "weft.link.v1.Links/Carry", "//weft.link.v1.Links/Carry"]
        {
            assert!(
                Role::ALL.into_iter().map(Some).chain([None]).all(|role| !table(path).allows(role)),
                "{path}"
            );
        }
    }
}
