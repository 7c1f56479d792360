//! Reasons that `ctl` gives by itself.

use super::Page;

pub(super) const PAGES: &[Page] = &[
    Page {
        reason: "not_supported_by_server",
        means: "The control plane does not know what was asked of it: it is older than ctl.",
        remedy: "Run the same version everywhere: `ctl version`.",
    },
    Page {
        reason: "replaced",
        means: "While a deploy was waited for, someone deployed another revision of the same graph; or another version of the same policy was applied.",
        remedy: "Look at it: `ctl history GRAPH`, `ctl status GRAPH`, `ctl policy show NAME`.",
    },
    Page {
        reason: "rollout_reverted",
        means: "The revision that was deployed, or the version of a policy that was applied, took over by steps and was given up. The one before answers everything: of a graph under a new number, of a policy on all graphs.",
        remedy: "The message says why, and `ctl events GRAPH` or `ctl policy rollout status NAME` how far it came. Correct it and deploy or apply it again.",
    },
    Page {
        reason: "source_missing",
        means: "A file that the manifest names is not there. Paths are relative to the manifest.",
        remedy: "Build the component first, or correct the path.",
    },
    Page {
        reason: "source_unreadable",
        means: "A file that the manifest names cannot be read.",
        remedy: "See who may read it; the message says what the system said.",
    },
];
