;; Traps.
(component
  (core module $m (func (export "run") unreachable))
  (core instance $i (instantiate $m))
  (func $run (canon lift (core func $i "run")))
  (instance $work (export "run" (func $run)))
  (export "acme:faults/work@1.0.0" (instance $work)))
