;; Passes every call of fermyon:spin/sqlite@2.0.0 on. Memory is taken in one direction and given back whole when a call
;; has been answered: nothing outlives a call but handles.
(module
  (import "fermyon:spin/sqlite@2.0.0" "[static]connection.open" (func $open (param i32 i32 i32)))
  (import "fermyon:spin/sqlite@2.0.0" "[method]connection.execute" (func $execute (param i32 i32 i32 i32 i32 i32)))
  (import "fermyon:spin/sqlite@2.0.0" "[resource-drop]connection" (func $drop (param i32)))
  (import "[export]fermyon:spin/sqlite@2.0.0" "[resource-new]connection" (func $new (param i32) (result i32)))

  (memory (export "memory") 1)
  ;; Behind what a null pointer would hit.
  (global $next (mut i32) (i32.const 1024))

  (func $reset (global.set $next (i32.const 1024)))

  (func $realloc (export "cabi_realloc")
    (param $old i32) (param $old-size i32) (param $align i32) (param $size i32) (result i32)
    (local $at i32) (local $end i64) (local $missing i64)
    (local.set $at
      (i32.and
        (i32.add (global.get $next) (i32.sub (local.get $align) (i32.const 1)))
        (i32.sub (i32.const 0) (local.get $align))))
    (local.set $end (i64.add (i64.extend_i32_u (local.get $at)) (i64.extend_i32_u (local.get $size))))
    (local.set $missing
      (i64.sub (local.get $end) (i64.mul (i64.extend_i32_u (memory.size)) (i64.const 65536))))
    (if (i64.gt_s (local.get $missing) (i64.const 0))
      (then
        (if (i32.eq
              (memory.grow (i32.wrap_i64
                (i64.div_u (i64.add (local.get $missing) (i64.const 65535)) (i64.const 65536))))
              (i32.const -1))
          (then unreachable))))
    (global.set $next (i32.wrap_i64 (local.get $end)))
    (if (local.get $old-size)
      (then
        (memory.copy (local.get $at) (local.get $old)
          (select (local.get $old-size) (local.get $size)
            (i32.lt_u (local.get $old-size) (local.get $size))))))
    (local.get $at))

  ;; result<connection, error>: the case at 0, what it holds at 4.
  (func (export "fermyon:spin/sqlite@2.0.0#[static]connection.open")
    (param $name i32) (param $name-length i32) (result i32)
    (local $out i32)
    (local.set $out (call $realloc (i32.const 0) (i32.const 0) (i32.const 4) (i32.const 16)))
    (call $open (local.get $name) (local.get $name-length) (local.get $out))
    (if (i32.eqz (i32.load8_u (local.get $out)))
      (then
        (i32.store offset=4 (local.get $out) (call $new (i32.load offset=4 (local.get $out))))))
    (local.get $out))
  (func (export "cabi_post_fermyon:spin/sqlite@2.0.0#[static]connection.open") (param i32) (call $reset))

  ;; result<query-result, error>: no handles in it.
  (func (export "fermyon:spin/sqlite@2.0.0#[method]connection.execute")
    (param $self i32) (param $text i32) (param $text-length i32) (param $values i32) (param $values-length i32)
    (result i32)
    (local $out i32)
    (local.set $out (call $realloc (i32.const 0) (i32.const 0) (i32.const 4) (i32.const 20)))
    (call $execute (local.get $self) (local.get $text) (local.get $text-length) (local.get $values)
      (local.get $values-length) (local.get $out))
    (local.get $out))
  (func (export "cabi_post_fermyon:spin/sqlite@2.0.0#[method]connection.execute") (param i32) (call $reset))

  (func (export "fermyon:spin/sqlite@2.0.0#[dtor]connection") (param $self i32)
    (call $drop (local.get $self))))
