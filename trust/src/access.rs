//! Which role may call which method of which server: the whole table. What is not in it nobody may call.

use crate::gate::Access;
use crate::spiffe::Role;

const OPERATOR: Access = Access::Roles(&[Role::Operator]);
const NODE: Access = Access::Roles(&[Role::Node]);
const MEMBER: Access = Access::Roles(&[Role::Member]);

/// The methods of a member of the control plane.
pub const OF_MEMBERS: &[(&str, Access)] = &[
    ("/grpc.health.v1.Health/Check", Access::Anyone),
    ("/grpc.health.v1.Health/Watch", OPERATOR),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", OPERATOR),
    ("/weft.artifact.v1.Artifacts/Get", Access::Roles(&[Role::Member, Role::Node, Role::Operator])),
    ("/weft.artifact.v1.Artifacts/Hold", MEMBER),
    ("/weft.artifact.v1.Artifacts/Put", OPERATOR),
    ("/weft.artifact.v1.Artifacts/Stat", OPERATOR),
    ("/weft.backup.v1.Backups/Save", OPERATOR),
    ("/weft.event.v1.Events/Watch", OPERATOR),
    ("/weft.graph.v1.Graphs/Delete", OPERATOR),
    ("/weft.graph.v1.Graphs/Deploy", OPERATOR),
    ("/weft.graph.v1.Graphs/Get", OPERATOR),
    ("/weft.graph.v1.Graphs/History", OPERATOR),
    ("/weft.graph.v1.Graphs/Invoke", OPERATOR),
    ("/weft.graph.v1.Graphs/List", OPERATOR),
    ("/weft.graph.v1.Graphs/Plan", OPERATOR),
    ("/weft.graph.v1.Graphs/Rollback", OPERATOR),
    ("/weft.graph.v1.Graphs/Rollout", OPERATOR),
    ("/weft.graph.v1.Graphs/Watch", OPERATOR),
    ("/weft.log.v1.Logs/Tail", OPERATOR),
    ("/weft.member.v1.Consensus/Append", MEMBER),
    ("/weft.member.v1.Consensus/Install", MEMBER),
    ("/weft.member.v1.Consensus/Lead", MEMBER),
    ("/weft.member.v1.Consensus/Propose", MEMBER),
    ("/weft.member.v1.Consensus/ReadIndex", MEMBER),
    ("/weft.member.v1.Consensus/Section", MEMBER),
    ("/weft.member.v1.Consensus/Vote", MEMBER),
    ("/weft.member.v1.Members/CreateToken", OPERATOR),
    ("/weft.member.v1.Members/Join", Access::Anyone),
    ("/weft.member.v1.Members/List", OPERATOR),
    ("/weft.member.v1.Members/Promote", OPERATOR),
    ("/weft.member.v1.Members/Remove", OPERATOR),
    ("/weft.member.v1.Members/Transfer", OPERATOR),
    ("/weft.namespace.v1.Namespaces/Get", OPERATOR),
    ("/weft.namespace.v1.Namespaces/List", OPERATOR),
    ("/weft.namespace.v1.Namespaces/SetQuota", OPERATOR),
    ("/weft.node.v1.Nodes/Admit", OPERATOR),
    ("/weft.node.v1.Nodes/Get", OPERATOR),
    ("/weft.node.v1.Nodes/Heard", MEMBER),
    ("/weft.node.v1.Nodes/Label", OPERATOR),
    ("/weft.node.v1.Nodes/List", OPERATOR),
    ("/weft.node.v1.Nodes/Rebalance", OPERATOR),
    ("/weft.node.v1.Nodes/Remove", OPERATOR),
    ("/weft.node.v1.Nodes/Session", NODE),
    ("/weft.node.v1.Nodes/Taint", OPERATOR),
    ("/weft.policy.v1.Policies/Apply", OPERATOR),
    ("/weft.policy.v1.Policies/Delete", OPERATOR),
    ("/weft.policy.v1.Policies/Get", OPERATOR),
    ("/weft.policy.v1.Policies/List", OPERATOR),
    ("/weft.policy.v1.Policies/Plan", OPERATOR),
    ("/weft.policy.v1.Policies/Rollback", OPERATOR),
    ("/weft.policy.v1.Policies/Rollout", OPERATOR),
    ("/weft.trust.v1.Enrolment/CreateToken", OPERATOR),
    ("/weft.trust.v1.Enrolment/Join", Access::Anyone),
    ("/weft.trust.v1.Enrolment/Renew", NODE),
    ("/weft.trust.v1.Enrolment/Revoke", OPERATOR),
];

/// The methods of a node's agent.
pub const OF_NODES: &[(&str, Access)] = &[
    ("/grpc.health.v1.Health/Check", MEMBER),
    ("/grpc.health.v1.Health/Watch", MEMBER),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", MEMBER),
    ("/weft.agent.v1.Agent/Invoke", MEMBER),
    ("/weft.link.v1.Links/Arrived", NODE),
    ("/weft.link.v1.Links/Carry", NODE),
    ("/weft.log.v1.Logs/Tail", MEMBER),
];

/// Who may call a method of a member of the control plane, by its path.
pub fn of_member(path: &str) -> Access {
    find(OF_MEMBERS, path)
}

/// Who may call a method of a node's agent, by its path.
pub fn of_node(path: &str) -> Access {
    find(OF_NODES, path)
}

fn find(table: &[(&str, Access)], path: &str) -> Access {
    table.iter().find(|(known, _)| *known == path).map_or(Access::NOBODY, |(_, access)| *access)
}
