;; Computes without end. In place of the line ROOM comes a memory for each share of the pool that an instance takes.
(component
  (core module $room (memory 0))
  ;; ROOM
  (core module $m (func (export "run") (loop $again (br $again))))
  (core instance $i (instantiate $m))
  (func $run (canon lift (core func $i "run")))
  (instance $work (export "run" (func $run)))
  (export "acme:faults/work@1.0.0" (instance $work)))
