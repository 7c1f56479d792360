;; A start function that calls an import which answers: nothing is wrong with that.
(component
  (import "wasi:random/random@0.2.0" (instance $random (export "get-random-u64" (func (result u64)))))
  (core func $random (canon lower (func $random "get-random-u64")))
  (core module $m
    (import "host" "random" (func $random (result i64)))
    (func $start (drop (call $random))) (start $start) (func (export "f")))
  (core instance $i (instantiate $m (with "host" (instance (export "random" (func $random))))))
  (func $f (canon lift (core func $i "f")))
  (instance $api (export "f" (func $f)))
  (export "acme:bad/api@1.0.0" (instance $api)))
