//! Reasons the control plane gives for refusing a request.

use super::Page;

pub(super) const PAGES: &[Page] = &[
    Page {
        reason: "agent_silent",
        means: "An agent opened a session and did not say what it must in time, or did not take what it was \
                sent.",
        remedy: "It connects again by itself; if it stays, look at the network between the node and the \
                 control plane.",
    },
    Page {
        reason: "agent_unreachable",
        means: "The control plane cannot reach the agent of the node that the graph is on.",
        remedy: "See `ctl node list`; if the node is down, start its agent. What it runs may serve meanwhile.",
    },
    Page {
        reason: "agents_too_old",
        means: "The revision is to take over by steps, and agents of nodes are of a version that does not know how. The message names the nodes.",
        remedy: "Upgrade them (`ctl node list` shows their versions), or deploy with `--at-once`.",
    },
    Page {
        reason: "already_initialised",
        means: "The cluster has its identity already; it gets one once.",
        remedy: "Nothing.",
    },
    Page {
        reason: "artifact_not_here",
        means: "The member that was asked has not got the bytes yet, and no other member gave them.",
        remedy: "Try again: it goes on fetching. If it stays, start the other members.",
    },
    Page {
        reason: "artifact_quota",
        means: "The artifacts of the cluster have as many bytes as they may have (`--artifact-quota` of the control plane).",
        remedy: "Delete graphs that are not needed: what nothing names goes after a day. Or start the members with a larger quota.",
    },
    Page {
        reason: "artifact_size",
        means: "An artifact was said to be empty, or to have more bytes than an artifact may have.",
        remedy: "Give the file that the manifest means; a component has at most 64 MiB.",
    },
    Page {
        reason: "backups",
        means: "A backup is being taken at this moment, and a member takes one at a time.",
        remedy: "Try again once it is done, or ask another member (`--addr`).",
    },
    Page {
        reason: "candidate",
        means: "`GRAPH@candidate` is a revision that takes over by steps, and this cannot be done with it by itself.",
        remedy: "Say what becomes of it with `ctl rollout`, or name the graph alone.",
    },
    Page {
        reason: "chunk_too_large",
        means: "A client sent an artifact in pieces larger than the API takes.",
        remedy: "Use ctl, or send at most 256 KiB at a time.",
    },
    Page {
        reason: "client_silent",
        means: "A client asked for a backup and did not read it, so that it was given up for others.",
        remedy: "Take it again, to a disk that is fast enough.",
    },
    Page {
        reason: "command_too_large",
        means: "The change does not fit into one entry of the log. Nothing was changed.",
        remedy: "Make the manifest smaller: move data out of `config`, or split the graph.",
    },
    Page {
        reason: "compacted",
        means: "Some of the events asked for are no longer kept.",
        remedy: "Ask from the revision that the error names, or for all that are kept.",
    },
    Page {
        reason: "deadline_passed",
        means: "The time that the client gave for its request has passed. If it was to change something, it may have.",
        remedy: "Look at what it was to change, then repeat with the same `--request-id` or more time.",
    },
    Page {
        reason: "digest_mismatch",
        means: "The bytes that arrived, or that lie on the disk, do not hash to the digest they go by.",
        remedy: "Deploy again: ctl uploads the file anew. If it stays, the disk of the control plane is failing.",
    },
    Page {
        reason: "disk",
        means: "The control plane could not read or write its data directory.",
        remedy: "Look at its log, at the room on the disk and at who may write there.",
    },
    Page {
        reason: "disk_full",
        means: "The disk of the control plane is full, or has less room than its members keep (`--disk-reserve`). Nothing \
                that was acknowledged is lost, and what exists can be read and deleted.",
        remedy: "Make room on the disk that holds its data directory (`ctl member list` says whose), then try again.",
    },
    Page {
        reason: "feature_level",
        means: "The change needs what not all members of the control plane know, or a member is older than what they use.",
        remedy: "Upgrade the older members: `ctl member list -o json` says what each knows.",
    },
    Page {
        reason: "future_revision",
        means: "A revision of the state was asked for that does not exist yet; perhaps it is of another cluster.",
        remedy: "Check the address (`--addr`, `CTL_ADDR`), and ask without a revision.",
    },
    Page {
        reason: "generation_conflict",
        means: "The graph is at another revision than the one you expected, or another version of the policy takes over: someone else changed it meanwhile.",
        remedy: "Look at the change (`ctl history GRAPH`, `ctl diff`, `ctl policy show NAME`), then deploy or ask again.",
    },
    Page {
        reason: "idempotency_mismatch",
        means: "The request id was used before, for another request. An id stands for one request for 24 hours.",
        remedy: "Use a new id, or none: ctl makes one.",
    },
    Page {
        reason: "identity_mismatch",
        means: "An agent came up under the name of a node that is known with another identity.",
        remedy: "Give the new node its own `--name`, or start the agent on the data directory the node had.",
    },
    Page {
        reason: "internal",
        means: "Something in Weft went wrong that never should.",
        remedy: "Report it, with the log of the process that said it (`ctl events`, `ctl logs GRAPH`).",
    },
    Page {
        reason: "last_voter",
        means: "The member is the only one that has a vote: without it nobody could decide anything.",
        remedy: "Give another member a vote first: `ctl member promote ID`.",
    },
    Page {
        reason: "member_stopped",
        means: "The member of the control plane is going down.",
        remedy: "Try again once it is back; nothing acknowledged is lost.",
    },
    Page {
        reason: "message_compressed",
        means: "A client sent compressed messages, and the API takes none: they could unpack to anything.",
        remedy: "Switch compression off in the client; ctl and the agents do not compress.",
    },
    Page {
        reason: "message_too_large",
        means: "A client sent a request that is larger than the API takes.",
        remedy: "Make the manifest smaller; files go up by themselves, in pieces.",
    },
    Page {
        reason: "no_earlier_revision",
        means: "There is no earlier version to go back to, or it is no longer kept (the last 10 are).",
        remedy: "Deploy or apply the manifest you want.",
    },
    Page {
        reason: "no_other_voter",
        means: "No member that could lead instead has a vote.",
        remedy: "`ctl member list` shows who has one; `ctl member promote ID` gives one.",
    },
    Page {
        reason: "no_policy_rollout",
        means: "No version of the policy takes over by steps: none was applied so, or it is in force or given up already.",
        remedy: "`ctl policy rollout status NAME` says what is in force and what was given up, and why.",
    },
    Page {
        reason: "no_quorum",
        means: "The member does not lead a majority right now, so that it cannot say what is true.",
        remedy: "Try again: repeating is safe. If it stays, start the other members.",
    },
    Page {
        reason: "no_rollout",
        means: "No revision of the graph takes over by steps: none was deployed so, or it is promoted or given up already.",
        remedy: "`ctl rollout status GRAPH` says what answers, and `ctl history GRAPH` what was deployed.",
    },
    Page {
        reason: "node_identity",
        means: "An agent spoke for another node than the one that its certificate is of.",
        remedy: "Start each agent on a data directory of its own; copies of one are refused. If it is none, somebody \
                 tries: `ctl node revoke NODE` takes the identity away.",
    },
    Page {
        reason: "node_in_use",
        means: "The node cannot be taken out: a graph is there, or has its data there.",
        remedy: "`ctl node drain NODE` moves what can be moved. For data that may be lost, add `--lose-data`, or delete the graph.",
    },
    Page {
        reason: "node_revoked",
        means: "The node's identity was taken away, or another machine has joined under its name.",
        remedy: "Make a token (`ctl node token NODE`), remove `identity.pem` from the agent's data directory, and start \
                 it with `--join-token-file`.",
    },
    Page {
        reason: "not_a_member",
        means: "A member that was taken out of the control plane asked for something.",
        remedy: "Stop it. To have it back, empty its data directory and let it join by a new token: `ctl member token`.",
    },
    Page {
        reason: "not_caught_up",
        means: "The member lacks too much of the log to have a vote: with one it would hold up every change.",
        remedy: "Wait until `ctl member list` shows that it is not behind, then try again.",
    },
    Page {
        reason: "not_found",
        means: "There is no object of this name. The nearest name is shown, if one is near.",
        remedy: "Correct the name; it may be in another namespace: `ctl list -A`.",
    },
    Page {
        reason: "not_leader",
        means: "The member does not lead the control plane now, so that it cannot change anything.",
        remedy: "Try again: repeating with the same request id is safe.",
    },
    Page {
        reason: "not_paused",
        means: "A revision, or a version of a policy, that takes over by steps was to go on, and is not paused.",
        remedy: "Nothing: it goes on by itself. From a step that holds `until-promoted`, `ctl rollout next GRAPH` or `ctl policy rollout next NAME` takes it on.",
    },
    Page {
        reason: "not_permitted",
        means: "The certificate that the client shows is of a role that may not call this, or it shows none.",
        remedy: "Call as who may: `--credentials` names the `operator.pem` that the control plane makes for its operators.",
    },
    Page {
        reason: "not_placed",
        means: "The graph is on no node yet, so that there is no one to ask.",
        remedy: "`ctl why GRAPH` says what hinders each node.",
    },
    Page {
        reason: "offset",
        means: "A part of an artifact was asked for that lies behind its end.",
        remedy: "Ask from 0; ctl and the agents do so by themselves.",
    },
    Page {
        reason: "other_member",
        means: "A member answers at the address of another one.",
        remedy: "Start each member with the address that `ctl member list` shows, or let it say its own: `--advertise`.",
    },
    Page {
        reason: "overloaded",
        means: "More changes were asked for at one time than the control plane takes. Nothing was done.",
        remedy: "ctl asks again by itself. Other clients wait for the time that the status names (`RetryInfo`).",
    },
    Page {
        reason: "plan_stale",
        means: "The plan was made of another manifest or another state than there is now. Nothing was changed.",
        remedy: "Plan again, look, and deploy with the new plan.",
    },
    Page {
        reason: "policy_rollout_open",
        means: "A version of another policy takes over by steps, and one policy does so at a time: of two, nobody could say which one it is that fails.",
        remedy: "Wait until it has, or end it (`ctl policy list` shows which one; `ctl policy rollout promote NAME` or `revert NAME`); or apply with `--at-once`.",
    },
    Page {
        reason: "policy_takes_over",
        means: "The revision was to take over by steps, and a version of a policy takes over by steps on the same graph. A graph has one candidate at a time.",
        remedy: "Deploy again when the policy has taken over (`ctl policy list` shows how far it is), or deploy with `--at-once`.",
    },
    Page {
        reason: "promoting",
        means: "A revision was to take over by steps while the one before it is promoted: everybody would be sent back to what was before both.",
        remedy: "Deploy again once `ctl rollout status GRAPH` says that it serves, or deploy with `--at-once`.",
    },
    Page {
        reason: "quota",
        means: "The cluster holds as many objects of this kind as it is built for.",
        remedy: "Delete what is not used.",
    },
    Page {
        reason: "quota_exceeded",
        means: "The graphs of the namespace would use more than they may together: graphs, components by the nodes that they should run on, \
                memory limits of those, or instances reserved for those; or what is reserved would have a higher priority than it may. \
                Nothing was changed. A deploy that asks for no more of it than its graph has is never refused.",
        remedy: "Let the graph ask for less, or delete what is not needed; `ctl namespace inspect NAMESPACE` shows what uses how much, and \
                 `ctl namespace quota NAMESPACE` raises it.",
    },
    Page {
        reason: "relink_pending",
        means: "A policy was changed, and not every graph that it concerns is linked again yet.",
        remedy: "Repeat with the same `--request-id`: it goes on from there, and nothing is applied twice.",
    },
    Page {
        reason: "request_early",
        means: "The id of a request says that the request was made more than a day from now.",
        remedy: "Set the clock of the machine that asks.",
    },
    Page {
        reason: "request_expired",
        means: "The request is so old that nobody knows any more whether it was applied: that is remembered for 24 hours.",
        remedy: "Look at what it was to change (`ctl events`, `ctl history GRAPH`), then ask again without `--request-id`.",
    },
    Page {
        reason: "session_superseded",
        means: "A newer session of the same node has begun, so that the older one was ended.",
        remedy: "Nothing, after a reconnect. If it comes again and again, two agents run with copies of one \
                 data directory: stop one.",
    },
    Page {
        reason: "snapshot_chunk",
        means: "A member sent the parts of a snapshot of the log out of order.",
        remedy: "Nothing once; it sends it again. If it comes again and again, run the same version everywhere: `ctl version`.",
    },
    Page {
        reason: "snapshot_damaged",
        means: "A backup, or a snapshot that a member was sent, is not what was written: it is cut off, or some of it has changed.",
        remedy: "Take another copy of the backup, or another one (`ctl cluster snapshot save`); a member sends a snapshot again.",
    },
    Page {
        reason: "snapshot_too_large",
        means: "A backup, or a snapshot that a member was sent, says that it has more in it than it may have.",
        remedy: "Take another copy of it: it is damaged, or none.",
    },
    Page {
        reason: "snapshot_version",
        means: "The file is no backup, or one of a later version of Weft. Of a snapshot that a member was sent: it cannot be read.",
        remedy: "Take the right file, or the version that made it; run the same version in all members.",
    },
    Page {
        reason: "snapshots",
        means: "A member receives a snapshot already.",
        remedy: "Nothing: the leader sends it again.",
    },
    Page {
        reason: "stale",
        means: "Graphs or policies changed while this change was being decided, several times in a row.",
        remedy: "Try again: repeating is safe.",
    },
    Page {
        reason: "state_quota",
        means: "The state of the cluster is as large as its members take (`--state-quota`). What exists can be read and \
                deleted.",
        remedy: "Delete graphs or policies that nobody uses, or start the members with a larger quota.",
    },
    Page {
        reason: "strict_warnings",
        means: "A deploy with `--strict` whose plan has warnings.",
        remedy: "`ctl plan FILE` shows them; deploy without `--strict` if they are meant.",
    },
    Page {
        reason: "term_jump",
        means: "A member speaks in a term that elections cannot have led to: its disk or its program is broken. Its term was not taken.",
        remedy: "Look at the log of the member that said it, which names the other one. Stop that, take it out (`ctl member remove ID`), and let it join anew with an empty data directory.",
    },
    Page {
        reason: "token_refused",
        means: "No join token that is still good lets this node or member in: it was used, its time is over, it is for \
                another, or it never was one. Which of them, whoever tries is not told.",
        remedy: "Make another: `ctl node token NODE` or `ctl member token`. `ctl events` shows which were made and used.",
    },
    Page {
        reason: "unexpected",
        means: "A message came where another one was due: a client or an agent does not speak this version's protocol.",
        remedy: "Run the same version everywhere: `ctl version`, `ctl node list -o wide`.",
    },
    Page {
        reason: "unknown_enum",
        means: "A message has a value that this version does not know: its sender is newer.",
        remedy: "Run the same version everywhere: `ctl version`, `ctl node list -o wide`.",
    },
    Page {
        reason: "unknown_outcome",
        means: "The control plane did not learn in time whether the change was committed. It may be.",
        remedy: "Repeat with the `--request-id` that is shown: it is applied at most once.",
    },
    Page {
        reason: "unreadable_command",
        means: "A change could not be written to the log in a form that can be read back. Nothing was changed.",
        remedy: "Report it, with the manifest.",
    },
    Page {
        reason: "upload_busy",
        means: "Another upload of the same artifact is under way.",
        remedy: "Try again: it goes on where the other one ends.",
    },
    Page {
        reason: "upload_offset",
        means: "A part of an artifact was sent that does not follow what has arrived.",
        remedy: "Ask where the upload stands and go on there; ctl does so by itself.",
    },
    Page {
        reason: "upload_silent",
        means: "An upload stopped in the middle and was given up.",
        remedy: "Deploy again: it goes on where it was.",
    },
    Page {
        reason: "upload_too_long",
        means: "More bytes arrived than the artifact was said to have.",
        remedy: "The file changed while it was sent: deploy again.",
    },
    Page {
        reason: "uploads",
        means: "As many uploads are under way as the control plane takes at one time.",
        remedy: "Try again in a moment.",
    },
];
