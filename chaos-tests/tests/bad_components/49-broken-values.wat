;; Results that are not what their types say.
(component
  (core module $m
    (memory (export "memory") 1)
    (data (i32.const 0) "\10\00\00\00\04\00\00\00\ff\fe\fd\fc\09\00\00\00\ff\fe\fd\fc")
    (data (i32.const 32) "\01\00\00\00\02\00\00\00") ;; two numbers at 1
    (data (i32.const 40) "\00\00\ff\ff\02\00\00\00") ;; two numbers behind the end
    (data (i32.const 48) "\00\00\00\00\ff\ff\ff\ff") ;; as many as there can be
    (func (export "utf8") (result i32) (i32.const 0))
    (func (export "discriminant") (result i32) (i32.const 12))
    (func (export "char") (result i32) (i32.const 0xd800))
    (func (export "unaligned") (result i32) (i32.const 32))
    (func (export "outside") (result i32) (i32.const 40))
    (func (export "longest") (result i32) (i32.const 48))
    (func (export "unaligned-result") (result i32) (i32.const 3))
    (func (export "result-outside") (result i32) (i32.const 65536)))
  (core instance $i (instantiate $m))
  (func $utf8 (result string) (canon lift (core func $i "utf8") (memory (core memory $i "memory"))))
  (func $discriminant (result (option u32)) (canon lift (core func $i "discriminant") (memory (core memory $i "memory"))))
  (func $char (result char) (canon lift (core func $i "char")))
  (func $unaligned (result (list u32)) (canon lift (core func $i "unaligned") (memory (core memory $i "memory"))))
  (func $outside (result (list u32)) (canon lift (core func $i "outside") (memory (core memory $i "memory"))))
  (func $longest (result (list u64)) (canon lift (core func $i "longest") (memory (core memory $i "memory"))))
  (func $unaligned-result (result string) (canon lift (core func $i "unaligned-result") (memory (core memory $i "memory"))))
  (func $result-outside (result string) (canon lift (core func $i "result-outside") (memory (core memory $i "memory"))))
  (instance $api
    (export "utf8" (func $utf8)) (export "discriminant" (func $discriminant)) (export "char" (func $char))
    (export "unaligned" (func $unaligned)) (export "outside" (func $outside)) (export "longest" (func $longest))
    (export "unaligned-result" (func $unaligned-result)) (export "result-outside" (func $result-outside)))
  (export "acme:bad/api@1.0.0" (instance $api)))
