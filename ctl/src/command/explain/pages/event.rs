//! The words of events and states: what happened, and where a graph or node stands.

use super::Page;

pub(super) const PAGES: &[Page] = &[
    Page {
        reason: "announced",
        means: "A member of the control plane said where it is reached.",
        remedy: "Nothing, if the address is right: other members must reach it there.",
    },
    Page {
        reason: "applied",
        means: "A version of a policy was committed; the graphs it concerns are linked again, or by its steps linked with it beside what they are.",
        remedy: "Nothing. `ctl policy show NAME` lists the links it stands on.",
    },
    Page {
        reason: "check_failing",
        means: "A component that serves has not passed its check on the node that the message is of, as many times in a row as its \
                `health` allows. Requests and calls go to the nodes where it passes; where it fails on all, to all of them.",
        remedy: "`ctl logs GRAPH` shows what it said; it is checked again as often as `health.every` says.",
    },
    Page {
        reason: "check_passing",
        means: "A component that failed its check passes it again on the node that the message is of: it is asked there as before.",
        remedy: "Nothing.",
    },
    Page {
        reason: "cordoned",
        means: "A node gets nothing new and keeps what it has: an operator has said so.",
        remedy: "`ctl node uncordon NODE` lets it have work again.",
    },
    Page {
        reason: "data_given_up",
        means: "A graph had data on a node that was taken out with `--lose-data`. It begins anew on another node.",
        remedy: "Nothing; what was lost is in backups of the node's data directory alone.",
    },
    Page {
        reason: "deleted",
        means: "A graph or policy was deleted. The data of a graph's capabilities is kept on the node.",
        remedy: "Nothing.",
    },
    Page {
        reason: "deployed",
        means: "A revision of a graph was committed: a majority has it on disk. It does not serve by that alone.",
        remedy: "`ctl status GRAPH` says whether it serves.",
    },
    Page {
        reason: "down",
        means: "The agent of a node was not heard of for too long. What the node runs may still serve.",
        remedy: "Start the agent again on its data directory, or see to the machine and its network.",
    },
    Page {
        reason: "draining",
        means: "What is on a node is moved to other nodes: an operator has said so. Each graph answers where it was until it answers where it goes.",
        remedy: "`ctl node inspect NODE` says what is left there, and why what stays does.",
    },
    Page {
        reason: "enrolled",
        means: "A node joined the cluster by a token and has an identity. It is given work once its agent connects.",
        remedy: "Nothing, if you expected it; else `ctl node revoke NODE` puts it out again.",
    },
    Page {
        reason: "failed",
        means: "A generation of a graph will not serve as it is. The generation before it, if any, goes on serving.",
        remedy: "`ctl why GRAPH` names the reason; correct it and deploy, or `ctl rollback GRAPH`.",
    },
    Page {
        reason: "forgotten",
        means: "Artifacts that no graph and no policy names any more were let go of, a day after the last one did.",
        remedy: "Nothing: what is deployed again is uploaded again.",
    },
    Page {
        reason: "joined",
        means: "A member joined the control plane by a token. It learns, and has no vote.",
        remedy: "`ctl member promote ID`, once it has caught up.",
    },
    Page {
        reason: "labelled",
        means: "An operator has given a node labels, or taken away some that were given.",
        remedy: "Nothing. Graphs whose members require labels that it has no more are moved.",
    },
    Page {
        reason: "moved",
        means: "A graph answers on other nodes than before. Where it was, it is let go of in a moment.",
        remedy: "Nothing.",
    },
    Page {
        reason: "moves_resumed",
        means: "Of a zone that was mostly lost, half or more of the nodes are ready again, or the lost ones were taken out.",
        remedy: "Nothing: what is on nodes that are down is moved again.",
    },
    Page {
        reason: "moves_stopped",
        means: "More than half of the nodes of a zone are down, three or more. They may be cut off and go on serving, so nothing is moved off them: it could overload the rest.",
        remedy: "See to the network and the machines; `ctl node remove NODE` takes out those that are gone for good.",
    },
    Page {
        reason: "pending",
        means: "A graph is on no node: none fits, or none has joined.",
        remedy: "`ctl why GRAPH` says for each node what hinders it.",
    },
    Page {
        reason: "placed",
        means: "A graph was given to a node.",
        remedy: "Nothing: the node's agent fetches, compiles and starts it.",
    },
    Page {
        reason: "policy_candidate",
        means: "A graph is linked with a version of a policy that takes over by steps, beside what it is. That is asked the share of its requests that the policy is at.",
        remedy: "Nothing. `ctl policy rollout status NAME` shows how it is with it.",
    },
    Page {
        reason: "promoted",
        means: "Of a member of the control plane: it got a vote. Of a graph: a revision that took over by steps answers everything from now on. Of a policy: a version that took over by steps is in force on all graphs.",
        remedy: "Nothing. An odd number of votes survives most; `ctl status GRAPH` says whether the revision, or the graph with the policy, serves everywhere yet.",
    },
    Page {
        reason: "quota_set",
        means: "An operator has said what the graphs of a namespace may use together. What they use already stays, also where that is more.",
        remedy: "Nothing. `ctl namespace inspect NAMESPACE` shows what is used of it.",
    },
    Page {
        reason: "raised",
        means: "All members of the control plane know what the newest version brings, and it is used from now on.",
        remedy: "Nothing: earlier versions of the control plane cannot join any more.",
    },
    Page {
        reason: "ready",
        means: "The agent of a node is connected, and the node can be given work.",
        remedy: "Nothing.",
    },
    Page {
        reason: "recovered",
        means: "A member of the control plane goes on alone: an operator let it, after most others were lost for good (`control-plane recover`).",
        remedy: "Let other members join it by new tokens: `ctl member token`.",
    },
    Page {
        reason: "relinked",
        means: "A graph was linked again since the policies changed; it gets a new generation, not a new revision.",
        remedy: "Nothing: requests under way end on the old linking, new ones get the new one.",
    },
    Page {
        reason: "removed",
        means: "A member was taken out of the control plane.",
        remedy: "Stop it and remove its data, if that is not done.",
    },
    Page {
        reason: "restored",
        means: "The cluster was made from a backup of another one (`ctl cluster snapshot restore`).",
        remedy: "Let its nodes join it again, each by a new token: `ctl node token NAME`.",
    },
    Page {
        reason: "retrying",
        means: "Something went wrong on the node that may pass, and is tried again by itself.",
        remedy: "Wait; the reason behind it has a page of its own.",
    },
    Page {
        reason: "reverted",
        means: "A revision, or a version of a policy, that took over by steps was given up: it did not come up, did worse than the one before, or somebody said so. The one before answers everything again: of a graph under a new number, of a policy on all graphs, whichever of them it did worse on.",
        remedy: "The event says why; `ctl rollout status GRAPH` says it too, until the next deploy, or `ctl policy rollout status NAME`. Correct it and deploy or apply it again.",
    },
    Page {
        reason: "revoked",
        means: "The identity of a node was taken away: its connections are cut, and nobody speaks with it.",
        remedy: "Nothing; to let it in again, `ctl node token NODE`.",
    },
    Page {
        reason: "rollout_paused",
        means: "A revision, or a version of a policy, that takes over by steps stays at its step: somebody said so, or it did worse and its manifest says `on-failure: pause`.",
        remedy: "Look at it, then `ctl rollout resume GRAPH`, `promote GRAPH` or `revert GRAPH`; of a policy `ctl policy rollout resume NAME`, `promote NAME` or `revert NAME`.",
    },
    Page {
        reason: "rollout_resumed",
        means: "A revision, or a version of a policy, that was paused takes over by steps again. The time of its step begins anew.",
        remedy: "Nothing. `ctl rollout status GRAPH` or `ctl policy rollout status NAME` shows how far it is.",
    },
    Page {
        reason: "rollout_started",
        means: "A revision, or a version of a policy, begins to take over by the steps of its manifest. It comes up beside the one before, of a policy on each graph that it concerns, and answers nothing yet.",
        remedy: "Nothing. `ctl status GRAPH --watch` or `ctl policy rollout status NAME` shows how far it is; `ctl rollout revert GRAPH` or `ctl policy rollout revert NAME` gives it up.",
    },
    Page {
        reason: "rollout_step",
        means: "A revision, or a version of a policy, that takes over by steps answers the share of its next step.",
        remedy: "Nothing. At a step that holds `until-promoted` it waits for `ctl rollout next GRAPH` or `ctl policy rollout next NAME`, or `promote` for everything at once.",
    },
    Page {
        reason: "scaled_down",
        means: "A component that is scaled by its calls runs on fewer nodes: these were enough for as long as its `down-after` says. The message has the figures.",
        remedy: "Nothing. `ctl status GRAPH` shows what is under way; raise `scale.min` to keep more nodes.",
    },
    Page {
        reason: "scaled_up",
        means: "A component that is scaled by its calls runs on more nodes: more calls were under way on each than are aimed at. The message has the figures.",
        remedy: "Nothing. `ctl status GRAPH` shows what is under way; `scale.max` bounds it.",
    },
    Page {
        reason: "serving",
        means: "The current generation of a graph answers where it was placed.",
        remedy: "Nothing.",
    },
    Page {
        reason: "starting",
        means: "A node works on the current generation: it fetches, compiles or starts it.",
        remedy: "Wait; `ctl status GRAPH --watch` follows it.",
    },
    Page {
        reason: "suspect",
        means: "A node is ready, and its agent was not heard of for half of the time after which it counts as lost (`--node-timeout-ms`). \
                Its graphs stay and are asked as before; nothing new comes to it where another node takes it.",
        remedy: "Wait: it is ready again once it is heard of, or down soon. `ctl node inspect NODE` says how long ago it was heard of.",
    },
    Page {
        reason: "tainted",
        means: "An operator has tainted a node, or taken taints away. What is there stays; what is new comes only if it tolerates all taints of the node.",
        remedy: "Nothing. `placement.tolerate` of a manifest says what is tolerated; `ctl node taint NODE KEY-` takes a taint away.",
    },
    Page {
        reason: "token",
        means: "A join token was made for a node: whoever has it can be that node, once, until it ends.",
        remedy: "Nothing, if you expected it.",
    },
    Page {
        reason: "uncordoned",
        means: "A node gets work again.",
        remedy: "Nothing; what was moved away does not come back by itself.",
    },
    Page {
        reason: "unknown",
        means: "The node of a graph is not heard of. What it runs may still serve.",
        remedy: "See `ctl node list`, and start the agent of that node.",
    },
];
