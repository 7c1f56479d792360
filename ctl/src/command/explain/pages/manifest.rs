//! Reasons found in the text of a manifest, before anything is linked.

use super::Page;

pub(super) const PAGES: &[Page] = &[
    Page {
        reason: "condition",
        means: "A condition on a label or an attribute of nodes is none, is several at one time, or has values that cannot be.",
        remedy: "Write a value, or one of `{in: [eu-1, eu-2]}`, `{not: spot}`, `{not-in: [a, b]}`, `{exists: true}`, \
                 `{version: \">=6.1, <7\"}` and `{at-least: 8}`, which may have `at-most` beside it.",
    },
    Page {
        reason: "config_too_large",
        means: "The `config` or `variables` of one component have more bytes than the cluster keeps for it.",
        remedy: "Keep settings there, and data in a file of the component or in a database.",
    },
    Page {
        reason: "deadline",
        means: "A deadline cannot be read, or is not between 1ms and 10m.",
        remedy: "Write a whole number and a unit: `800ms`, `5s`, `10m`.",
    },
    Page {
        reason: "digest",
        means: "A digest is not `sha256:` and 64 lower-case hex digits, or the file beside it has another one.",
        remedy: "Leave `digest` out, or print the file's with `ctl component inspect FILE`.",
    },
    Page {
        reason: "duplicate_component",
        means: "One name is used for a component and for a capability; they share their names.",
        remedy: "Rename one of them, and what refers to it.",
    },
    Page {
        reason: "duplicate_key",
        means: "A key is written twice in the same map, so that one of the two would be lost.",
        remedy: "Keep one of them.",
    },
    Page {
        reason: "duplicate_route",
        means: "Two entries of `ingress` take the same host and path, so that one would never answer.",
        remedy: "Give them different paths or hosts.",
    },
    Page {
        reason: "egress_rule",
        means: "An entry of `egress` is not an origin: a scheme, one host, and a port if it is not the usual one. \
                Wildcards, networks, paths and addresses in disguise are refused: what a reviewer reads must be \
                what is reached.",
        remedy: "Write one line for each origin: `https://api.example.com`, `http://10.0.0.7:8080`.",
    },
    Page {
        reason: "empty",
        means: "The manifest has nothing in it.",
        remedy: "Start with `version: 1` and `graph: NAME`; `ctl schema graph` prints all fields.",
    },
    Page {
        reason: "encoding",
        means: "The manifest is not UTF-8, or has a control character or a byte order mark in the middle.",
        remedy: "Save the file as UTF-8 and remove the character at the place shown.",
    },
    Page {
        reason: "expected_string",
        means: "A text is wanted, and YAML reads what is written as something else: a number, a boolean or \
                nothing.",
        remedy: "Put it in quotes, as the help beside the error shows.",
    },
    Page {
        reason: "format_version",
        means: "`version` names a format of manifests that this version does not read.",
        remedy: "Write `version: 1`.",
    },
    Page {
        reason: "graph_too_large",
        means: "A graph has more components, links or instances per request than the cluster plans for. A provider \
                instance is private to its consumer instance, so a graph of diamonds doubles with each layer.",
        remedy: "Split the graph in two, or let fewer components stand in front of the same provider.",
    },
    Page {
        reason: "interface",
        means: "A text does not name an interface.",
        remedy: "Write `namespace:package/interface@version`; the version may be cut (`@2`) or left out.",
    },
    Page {
        reason: "invalid",
        means: "The manifest was refused, and the control plane did not say why.",
        remedy: "Try `ctl check FILE`; ctl and the control plane may be of different versions: `ctl version`.",
    },
    Page {
        reason: "labels",
        means: "The labels of one object have more bytes together than policies select on.",
        remedy: "Keep what policies and people select on; move the rest to `config`.",
    },
    Page {
        reason: "manifest_too_large",
        means: "The manifest has more than 1 MiB.",
        remedy: "Split the graph in two, or move data out of `config`.",
    },
    Page {
        reason: "memory_limit",
        means: "A memory limit cannot be read or is out of bounds, or a component's memory is larger than that at its \
                start.",
        remedy: "Write `64Ki` to `128Mi`; raise `limits.memory` to what the component starts with (`ctl component inspect \
                 FILE`), or build it with a smaller initial memory.",
    },
    Page {
        reason: "missing_artifact",
        means: "The bytes behind a source, or behind a component of a policy, are not stored in the cluster.",
        remedy: "Deploy or apply with ctl: it uploads what is missing. If it comes again, an artifact was lost from \
                 the control plane's disk: deploy from the original files.",
    },
    Page {
        reason: "missing_field",
        means: "A field that must be there is not: in a manifest, or in a message of another client than ctl.",
        remedy: "Add it; `ctl explain graph` and `ctl explain policy` say what each field means.",
    },
    Page {
        reason: "more_mistakes",
        means: "The manifest has more mistakes than are shown at once.",
        remedy: "Correct those that are shown, and check again.",
    },
    Page {
        reason: "name",
        means: "A name has a character that names do not have, or is too long. Names are lower-case letters, digits and \
                inner hyphens, at most 63; `--` is kept for the names Weft makes.",
        remedy: "Rename it.",
    },
    Page {
        reason: "no_components",
        means: "A graph without components has nothing to run.",
        remedy: "Add one under `components`.",
    },
    Page {
        reason: "not_supported_yet",
        means: "A field, a source or an interface is known, but this version does not act on it. It is refused rather \
                than ignored.",
        remedy: "Remove it; the help beside the error names what stands in for it, where something does.",
    },
    Page {
        reason: "out_of_range",
        means: "A number is smaller or larger than the field takes.",
        remedy: "`ctl explain graph.PATH.OF.THE.FIELD` says what it takes.",
    },
    Page {
        reason: "policy_action",
        means: "A policy has both `interpose` and `deny`, or neither, or more components than fit on a link.",
        remedy: "Keep one of the two; a policy puts at most 8 components on a link.",
    },
    Page {
        reason: "policy_open_mandatory",
        means: "A policy is mandatory and open on failure at once: a mandatory policy may never be left out.",
        remedy: "Write `on-failure: closed`, or remove `mandatory`.",
    },
    Page {
        reason: "read_only_field",
        means: "The field is set by the cluster; a manifest says only what should be.",
        remedy: "Remove it.",
    },
    Page {
        reason: "route",
        means: "The host or the path of a route cannot be used.",
        remedy: "A host is a plain name without scheme, port or wildcard; a path starts with `/` and has no query.",
    },
    Page {
        reason: "route_taken",
        means: "Another graph has this host and path already: a request leads to one graph. Whoever came \
                first keeps it, whatever the namespace.",
        remedy: "Choose another host or path, or delete that graph.",
    },
    Page {
        reason: "source_address",
        means: "A source is no path that means the same on every machine.",
        remedy: "Write a path relative to the manifest, as in `./build/app.wasm`.",
    },
    Page {
        reason: "source_scheme",
        means: "A source names a scheme that ctl does not read from.",
        remedy: "Download the file, and name its path relative to the manifest.",
    },
    Page {
        reason: "unknown_capability",
        means: "There is no capability of this type.",
        remedy: "Types are: sqlite.",
    },
    Page {
        reason: "unknown_component",
        means: "A link, a route or a call names a component or capability that the graph does not have.",
        remedy: "Correct the name; `ctl graph GRAPH` shows those there are.",
    },
    Page {
        reason: "unknown_field",
        means: "There is no such field at this place. Unknown fields are refused, since a misspelt one would be \
                ignored.",
        remedy: "Correct or remove it; `ctl explain graph` and `ctl explain policy` list the fields.",
    },
    Page {
        reason: "unknown_value",
        means: "The field takes one of a few words, and this is none of them.",
        remedy: "Take one of the words that the error lists.",
    },
    Page {
        reason: "wrong_type",
        means: "A value is of another kind than the field takes: a list where a text is wanted, for instance.",
        remedy: "`ctl explain graph.PATH.OF.THE.FIELD` says what it takes.",
    },
    Page {
        reason: "yaml_alias",
        means: "The manifest uses anchors, aliases or merge keys, which manifests do without: what is read must be \
                what is meant, and a few bytes must not unfold to many.",
        remedy: "Write the value out where it is used.",
    },
    Page {
        reason: "yaml_depth",
        means: "The manifest is nested deeper than any manifest needs.",
        remedy: "Remove the nesting at the place shown.",
    },
    Page {
        reason: "yaml_merge",
        means: "The manifest uses a merge key (`<<`), which manifests do without: what is read must be what \
                is meant.",
        remedy: "Write the fields out where they are wanted.",
    },
    Page {
        reason: "yaml_multi_document",
        means: "The file has more than one YAML document (`---`).",
        remedy: "Write one file for each graph or policy.",
    },
    Page {
        reason: "yaml_syntax",
        means: "The file is not YAML from the place shown on: often a tab, an open bracket or quote, or an indentation \
                that fits no line above.",
        remedy: "Correct it; `ctl check FILE` tries again without a cluster.",
    },
    Page {
        reason: "yaml_tag",
        means: "The manifest has a YAML tag (`!name`), which manifests do without.",
        remedy: "Write the plain value.",
    },
];
