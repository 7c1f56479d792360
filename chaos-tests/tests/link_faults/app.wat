;; Answers a request by a call over a link, and with nothing when that has returned.
(component
  (import "wasi:http/types@0.2.0" (instance $types
    (export "incoming-request" (type (sub resource)))
    (export "response-outparam" (type (sub resource)))))
  (alias export $types "incoming-request" (type $request))
  (alias export $types "response-outparam" (type $outparam))
  (import "acme:faults/work@1.0.0" (instance $work (export "run" (func))))
  (core func $run (canon lower (func $work "run")))
  (core module $m
    (import "work" "run" (func $run))
    (func (export "handle") (param i32 i32) (call $run)))
  (core instance $i (instantiate $m (with "work" (instance (export "run" (func $run))))))
  (func $handle (param "request" (own $request)) (param "response-out" (own $outparam))
    (canon lift (core func $i "handle")))
  (instance $handler (export "handle" (func $handle)))
  (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))
