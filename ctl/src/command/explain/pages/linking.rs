//! Reasons found in a component's bytes, and when imports and policies are linked.

use super::Page;

pub(super) const PAGES: &[Page] = &[
    Page {
        reason: "ambiguous_import",
        means: "More than one component or capability could satisfy an import, or two links do.",
        remedy: "Write one link for it: `links: [{from: …, interface: …, to: …}]`.",
    },
    Page {
        reason: "compile_limit",
        means: "The component has more functions, or larger ones, than would compile in a bearable time.",
        remedy: "Build it with optimisation, without debug code, or as two components.",
    },
    Page {
        reason: "component_too_large",
        means: "The component has more than 64 MiB.",
        remedy: "Strip debug sections (`wasm-tools strip`), or read large data from outside.",
    },
    Page {
        reason: "compressed",
        means: "The file is an archive or compressed, not a component.",
        remedy: "Unpack it and give the `.wasm` file itself.",
    },
    Page {
        reason: "core_module",
        means: "The file is a core module: it has no typed imports and exports that could be linked.",
        remedy: "Make a component of it: `wasm-tools component new`, or build for a component target.",
    },
    Page {
        reason: "cycle",
        means: "Components call each other in a circle, so that none of them could be made first.",
        remedy: "Break the circle shown: move what both need into a third component.",
    },
    Page {
        reason: "feature",
        means: "The component uses a WebAssembly proposal that nodes do not run, such as threads or shared memory.",
        remedy: "Build it without the feature that the error names.",
    },
    Page {
        reason: "import_not_granted",
        means: "A component imports an interface of WASI that a node does not give: sockets and files, for instance. \
                Nothing is granted by default.",
        remedy: "Build the component without it, or link the import to a component that offers it.",
    },
    Page {
        reason: "interface_mismatch",
        means: "Both ends of a link name the same interface, but a function has another type on the one end than on \
                the other; or a component would get a resource from one provider and hand it to another.",
        remedy: "Build both ends against the same WIT; the error shows both types and where they part.",
    },
    Page {
        reason: "interface_version",
        means: "The interface is offered, but on another semver track: `@1` does not satisfy `@2`.",
        remedy: "Build one end against the version of the other, or add a component that offers this version.",
    },
    Page {
        reason: "local_only",
        means: "The two ends of a link ask for two nodes, and a function of it carries what cannot cross to another \
                node.",
        remedy: "Let both require the same node in `placement.require`, or change the function's types; `ctl component \
                 inspect FILE` says how far each function reaches.",
    },
    Page {
        reason: "malformed",
        means: "Bytes cannot be read as what they should be: a component that does not validate, or a field of a \
                message with a value of the wrong form.",
        remedy: "Build the file again; `ctl component inspect FILE` says where it breaks.",
    },
    Page {
        reason: "nesting",
        means: "Components or types are nested deeper than the cluster reads.",
        remedy: "Flatten the composition or the type.",
    },
    Page {
        reason: "no_exports",
        means: "The component exports no interface of a package, so that nothing could ever call it.",
        remedy: "Export one; a component for HTTP exports `wasi:http/incoming-handler`.",
    },
    Page {
        reason: "not_binary",
        means: "The file is WebAssembly text.",
        remedy: "Turn it into the binary format: `wasm-tools parse`.",
    },
    Page {
        reason: "not_component",
        means: "The file is a WIT package: interfaces without code.",
        remedy: "Give the component that was built against it.",
    },
    Page {
        reason: "not_repeatable",
        means: "A link to an HTTP handler asks for lost calls to be made again, and a request whose body has gone cannot be.",
        remedy: "Leave `idempotent` out of that link; clients are told what was lost, and may ask again.",
    },
    Page {
        reason: "not_wasm",
        means: "The file does not begin like WebAssembly.",
        remedy: "Check the path: `source` names the built `.wasm` file.",
    },
    Page {
        reason: "on_loss",
        means: "A link maps a lost call to an error that no function of its interface can answer with.",
        remedy: "Name a case of a function's error type that holds nothing or a string; `ctl component inspect FILE -o \
                 wide` shows the types.",
    },
    Page {
        reason: "policy_audit",
        means: "A policy in mode `audit` would stand on a link; it is shown, and does nothing.",
        remedy: "Nothing. With `mode: enforce` it takes effect.",
    },
    Page {
        reason: "policy_denied",
        means: "A policy forbids a link of the graph; its own words stand behind it.",
        remedy: "Remove the import, or ask who owns the policy for an exception: `ctl policy show NAME`.",
    },
    Page {
        reason: "policy_open",
        means: "A policy cannot stand on a link and is open on failure: the link stays as it is, without it.",
        remedy: "Tell who owns the policy; `ctl policy check GRAPH/COMPONENT INTERFACE` shows what stands.",
    },
    Page {
        reason: "policy_rank",
        means: "Two policies have the same phase and priority on one link, so that their order would be chance.",
        remedy: "Give one of them another `order.priority`.",
    },
    Page {
        reason: "policy_unlinkable",
        means: "A policy's component cannot stand on a link that it must stand on: it does not export and import that \
                interface, or its types differ, or it needs something that a node does not give.",
        remedy: "Build the policy's component against the interface as the graphs use it; `ctl policy plan FILE` lists \
                 every graph it would block.",
    },
    Page {
        reason: "precompiled",
        means: "The file is machine code. Nodes compile components themselves, and never run code that came from \
                outside.",
        remedy: "Give the `.wasm` component it was made of.",
    },
    Page {
        reason: "type_too_large",
        means: "The component has more imports and exports, or larger types, than are compared when it is \
                linked.",
        remedy: "Split the interface, or build the component with fewer of them.",
    },
    Page {
        reason: "unknown_export",
        means: "A link or a route ends at a component that does not export what is wanted of it.",
        remedy: "Point it at another component; `ctl component inspect FILE` lists what one exports.",
    },
    Page {
        reason: "unknown_import",
        means: "A link starts at a component that does not import the interface it names.",
        remedy: "Remove the link, or correct its `interface`; `ctl component inspect FILE` lists the imports.",
    },
    Page {
        reason: "unsatisfied_import",
        means: "Nothing in the graph offers an interface that a component imports, and a node does not give it either.",
        remedy: "Add a component or a capability that offers it, or a link to one.",
    },
    Page {
        reason: "unschedulable",
        means: "No node of the cluster is what `placement.require` asks for, or two members that must be \
                together ask for different ones.",
        remedy: "Correct the labels, or start an agent with `--label KEY=VALUE`; `ctl node list -o wide` shows those there \
                 are.",
    },
    Page {
        reason: "unused_capability",
        means: "A capability of the graph that no import is linked to. It is not made, and its seed is not run.",
        remedy: "Remove it, or link an import to it: `ctl component inspect FILE` lists a component's imports.",
    },
];
