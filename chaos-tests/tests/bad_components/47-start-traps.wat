;; A start function that traps.
(component
  (core module $m (func $start unreachable) (start $start) (func (export "f")))
  (core instance $i (instantiate $m))
  (func $f (canon lift (core func $i "f")))
  (instance $api (export "f" (func $f)))
  (export "acme:bad/api@1.0.0" (instance $api)))
