//! Reasons a node's agent gives for a graph that does not serve, or a call that has no answer.

use super::Page;

pub(super) const PAGES: &[Page] = &[
    Page {
        reason: "answer_lost",
        means: "The node where the graph is was lost after it had the request: whether the request was handled is not known.",
        remedy: "Ask again only if the request may be done twice; `ctl node list` shows how the node is.",
    },
    Page {
        reason: "artifact_corrupt",
        means: "An artifact on the node's disk does not hash to its digest any more. It is pulled again by itself.",
        remedy: "Wait; if it comes back, the node's disk is failing.",
    },
    Page {
        reason: "artifact_io",
        means: "The node could not store an artifact. It is tried again by itself.",
        remedy: "Look at the room on the node's disk, and at who may write to the agent's data directory.",
    },
    Page {
        reason: "artifact_unavailable",
        means: "No member of the control plane gave the node an artifact it needs. It is tried again by itself.",
        remedy: "See that the control plane is up; if it lost the artifact, deploy the graph again.",
    },
    Page {
        reason: "check_failed",
        means: "A component did not pass the check that its `health` asks for, on the node that the message is of. It is checked \
                again by itself, after longer and longer waits; the generation before it, if there is one, serves until then.",
        remedy: "`ctl logs GRAPH` shows what it said; deploy a revision that passes, or go back with `ctl rollback GRAPH`.",
    },
    Page {
        reason: "compile_failed",
        means: "The components of the graph, fused into one, could not be compiled.",
        remedy: "The message names what the compiler refused; `ctl component inspect FILE` checks one component.",
    },
    Page {
        reason: "component_failed",
        means: "The component trapped, ran out of memory or ended without an answer. Other requests are not concerned.",
        remedy: "`ctl logs GRAPH --request ID` shows the trap and the functions on its stack; the id is in the answer.",
    },
    Page {
        reason: "database_failed",
        means: "A database of the graph could not be opened on the node. It is tried again by itself.",
        remedy: "Look at the room on the node's disk; the message says what SQLite said.",
    },
    Page {
        reason: "deadline_exceeded",
        means: "The component did not answer within its deadline, and the instance was ended.",
        remedy: "Find what it waits for (`ctl logs GRAPH`), or raise `limits.deadline`, up to 10m.",
    },
    Page {
        reason: "fuse_failed",
        means: "The components of the graph could not be fused into one, though their types fit.",
        remedy: "Report it with the manifest and the components: linking should have refused it.",
    },
    Page {
        reason: "graph_not_here",
        means: "The graph has not run on this node since its agent started, so there are no lines of it.",
        remedy: "`ctl status GRAPH` says where it is.",
    },
    Page {
        reason: "graph_not_serving",
        means: "No generation of the graph answers on its node now.",
        remedy: "`ctl why GRAPH` says what hinders it.",
    },
    Page {
        reason: "import_unknown",
        means: "The node's host does not have an interface that the control plane linked to it: the agent is older.",
        remedy: "Run the same version everywhere: `ctl version`, `ctl node list -o wide`.",
    },
    Page {
        reason: "invalid_arguments",
        means: "The arguments of a call are not what the function takes.",
        remedy: "Write a WAVE value for each parameter; `ctl component inspect FILE` shows the functions.",
    },
    Page {
        reason: "invalid_links",
        means: "The links that the node was given contradict each other.",
        remedy: "Report it with the manifest: linking should have refused it.",
    },
    Page {
        reason: "isolated",
        means: "The node is cut off from the control plane, and the graph asks for `on-isolation: stop`: it does not serve there, so \
                that it can be placed on another node without two of them serving it. The request was not handled, unless the \
                answer says otherwise.",
        remedy: "See to the network between the node and the control plane: it serves again once the control plane has confirmed \
                 that it is to. `on-isolation: serve` has it go on.",
    },
    Page {
        reason: "link_busy",
        means: "A component on another node could not be called: that node has no room for one more instance. Nothing was \
                done.",
        remedy: "Try again. If it stays, that node is too small, or its requests are slow.",
    },
    Page {
        reason: "link_deadline",
        means: "A component on another node did not answer within the time that its caller had left.",
        remedy: "Find what it waits for (`ctl logs GRAPH`), or raise `limits.deadline` of both.",
    },
    Page {
        reason: "link_denied",
        means: "A node was asked for a component by one that has no link to it in the graph that this node knows.",
        remedy: "If both nodes serve the same generation (`ctl status GRAPH`), report it: linking should have made the link.",
    },
    Page {
        reason: "link_failed",
        means: "The node's host could not be joined with the component.",
        remedy: "Run the same version everywhere; if it stays, report it with the component.",
    },
    Page {
        reason: "link_lost",
        means: "The way to a component on another node was lost after it was called. Whether the call was done is not known.",
        remedy: "Look whether it was before you repeat it; `ctl node list` shows which node was lost. Calls that may be done \
                 twice are repeated for you where their link says `idempotent: true`.",
    },
    Page {
        reason: "link_mismatch",
        means: "A component on another node has another type for a function than its caller: the two nodes run different \
                generations of it.",
        remedy: "Wait until the graph serves on all its nodes; if it stays, deploy it again.",
    },
    Page {
        reason: "link_protocol",
        means: "Two agents do not understand each other, or a value is larger than a link carries.",
        remedy: "Run the same version everywhere (`ctl node list -o wide`); carry large values in parts.",
    },
    Page {
        reason: "link_trapped",
        means: "A component on another node trapped, and with it the instance that called it.",
        remedy: "`ctl logs GRAPH --request ID` shows the lines of all nodes.",
    },
    Page {
        reason: "link_unavailable",
        means: "A component on another node could not be called: the node is not reached, does not serve that part yet, or \
                failed so often in a row that it is left alone for up to two seconds. Nothing was done.",
        remedy: "Try again; `ctl node list` and `ctl why GRAPH` show what is missing.",
    },
    Page {
        reason: "no_capacity",
        means: "As many instances run on the node as it has room for.",
        remedy: "Try again. If it stays, requests are slow (`ctl logs GRAPH`) or the node is too small.",
    },
    Page {
        reason: "no_handler",
        means: "A route leads to a component that takes no HTTP requests.",
        remedy: "Point the route at a component that exports `wasi:http/incoming-handler@0.2`.",
    },
    Page {
        reason: "node_unreachable",
        means: "The node where the graph is could not be reached by the node that took the request, which was not handled.",
        remedy: "Ask again; `ctl node list` shows whether the node is down, and what runs there may be placed anew.",
    },
    Page {
        reason: "not_callable",
        means: "The function takes or returns something that cannot be written as text: a resource or a stream.",
        remedy: "Call another function, or call it through a component that can.",
    },
    Page {
        reason: "peer_not_ready",
        means: "The new generation is prepared, but what it calls on another node is not there yet. The generation before it \
                serves until then.",
        remedy: "Wait; if it stays, `ctl node list` shows whether that node is ready, and `ctl status GRAPH` what it says.",
    },
    Page {
        reason: "prepare_failed",
        means: "Preparing the graph ended early on the node, in a way that may pass. It is tried again by itself.",
        remedy: "Wait; if it stays, report it with the log of the agent.",
    },
    Page {
        reason: "request_not_carried",
        means: "The graph is on another node than the one asked, and the request is not one that can be passed on to it.",
        remedy: "The message says why; a request with a proper host, and not by CONNECT, is passed on.",
    },
    Page {
        reason: "requirement_unmet",
        means: "A member of the graph requires what this node is not, and is placed anew. What served \
                before serves on.",
        remedy: "Nothing; if it stays, no node has the labels: `ctl node list -o wide`.",
    },
    Page {
        reason: "seed_failed",
        means: "The SQL script of a database failed, so that the database was not made. Nothing half-made is kept.",
        remedy: "Correct the script that `seed` names; the message says which statement failed.",
    },
    Page {
        reason: "slice_too_large",
        means: "The part of the graph behind one root has more instances than a node makes for one request.",
        remedy: "Split the graph, or let fewer components stand in front of the same provider.",
    },
    Page {
        reason: "start_failed",
        means: "A first instance could not be made: its start code trapped, or ran past the deadline. The generation \
                before it goes on serving.",
        remedy: "`ctl logs GRAPH` shows what it said; correct the component and deploy again.",
    },
    Page {
        reason: "unknown_function",
        means: "The interface has no such function.",
        remedy: "`ctl component inspect FILE` lists the functions.",
    },
    Page {
        reason: "unknown_interface",
        means: "The component exports no such interface.",
        remedy: "`ctl component inspect FILE` lists what it exports.",
    },
];
