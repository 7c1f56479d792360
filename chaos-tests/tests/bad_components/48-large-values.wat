;; Values that are too large to be copied out of the guest: as a result, and as an argument of a host's function.
(component
  (import "wasi:logging/logging@0.1.0-draft" (instance $logging
    (type $l (enum "trace" "debug" "info" "warn" "error" "critical"))
    (export "level" (type $level (eq $l)))
    (export "log" (func (param "level" $level) (param "context" string) (param "message" string)))))
  (core module $memory (memory (export "memory") 1601))
  (core instance $memory (instantiate $memory))
  (core func $log (canon lower (func $logging "log") (memory (core memory $memory "memory"))))
  (core module $m
    (import "host" "memory" (memory 1601))
    (import "host" "log" (func $log (param i32 i32 i32 i32 i32)))
    (data (i32.const 0) "\10\00\00\00\00\00\40\06") ;; at 16, 100 MiB
    (func (export "list") (result i32) (i32.const 0))
    (func (export "text") (result i32) (i32.const 0))
    (func (export "log") (call $log (i32.const 2) (i32.const 0) (i32.const 0) (i32.const 16) (i32.const 104857600))))
  (core instance $i (instantiate $m (with "host" (instance
    (export "memory" (memory $memory "memory")) (export "log" (func $log))))))
  (func $list (result (list u8)) (canon lift (core func $i "list") (memory (core memory $memory "memory"))))
  (func $text (result string) (canon lift (core func $i "text") (memory (core memory $memory "memory"))))
  (func $log-it (canon lift (core func $i "log")))
  (instance $api (export "list" (func $list)) (export "text" (func $text)) (export "log" (func $log-it)))
  (export "acme:bad/api@1.0.0" (instance $api)))
