;; Waits for an hour. In place of the line ROOM comes a memory for each share of the pool that an instance takes.
(component
  (core module $room (memory 0))
  ;; ROOM
  (import "wasi:io/poll@0.2.0" (instance $poll
    (export "pollable" (type $pollable (sub resource)))
    (export "[method]pollable.block" (func (param "self" (borrow $pollable))))))
  (alias export $poll "pollable" (type $pollable))
  (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
    (alias outer 1 $pollable (type $outer))
    (export "pollable" (type $pollable (eq $outer)))
    (export "subscribe-duration" (func (param "when" u64) (result (own $pollable))))))
  (core func $subscribe (canon lower (func $clock "subscribe-duration")))
  (core func $block (canon lower (func $poll "[method]pollable.block")))
  (core module $m
    (import "host" "subscribe" (func $subscribe (param i64) (result i32)))
    (import "host" "block" (func $block (param i32)))
    (func (export "run") (call $block (call $subscribe (i64.const 3600000000000)))))
  (core instance $i (instantiate $m
    (with "host" (instance (export "subscribe" (func $subscribe)) (export "block" (func $block))))))
  (func $run (canon lift (core func $i "run")))
  (instance $work (export "run" (func $run)))
  (export "acme:faults/work@1.0.0" (instance $work)))
