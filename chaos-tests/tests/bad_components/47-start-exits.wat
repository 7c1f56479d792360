;; A start function that calls an import which ends the instance.
(component
  (import "wasi:cli/exit@0.2.0" (instance $exit (export "exit" (func (param "status" (result))))))
  (core func $exit (canon lower (func $exit "exit")))
  (core module $m
    (import "host" "exit" (func $exit (param i32)))
    (func $start (call $exit (i32.const 0))) (start $start) (func (export "f")))
  (core instance $i (instantiate $m (with "host" (instance (export "exit" (func $exit))))))
  (func $f (canon lift (core func $i "f")))
  (instance $api (export "f" (func $f)))
  (export "acme:bad/api@1.0.0" (instance $api)))
