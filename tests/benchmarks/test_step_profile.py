import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.step_profile import Operations, Span, Window, by_type, own_times, read


def test_an_operation_is_not_charged_for_those_inside_it():
    spans = [
        Span("call:PartitionedCall", 0, 100),
        Span("ExecutorState::Process", 5, 95),
        Span("bert/dense/MatMul:MatMul", 10, 40),
        Span("bert/add:AddV2", 40, 50),
        Span("next:Mul", 100, 120),
    ]
    assert own_times(spans) == [("PartitionedCall", 60), ("MatMul", 30), ("AddV2", 10), ("Mul", 20)]


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 50)), max_size=12), st.integers(1, 4))
def test_own_times_of_what_lies_inside_one_operation_add_up_to_it(inside, depth):
    spans, now = [], 0
    for pause, length in inside:
        now += pause
        spans += [Span(f"node_{level}:Kind{level}", now, now + length) for level in range(depth)]
        now += length
    outer = Span("all:Outer", 0, now + 1)
    assert sum(taken for _, taken in own_times([*spans, outer])) == now + 1


def test_operations_of_all_threads_are_counted_by_type():
    threads = [[Span("a:Mul", 0, 10), Span("b:MatMul", 10, 50)], [Span("c:Mul", 5, 10)]]
    assert by_type(threads) == [Operations("MatMul", 1, 40), Operations("Mul", 2, 15)]


def test_a_real_profile_holds_the_operations_of_its_window(tmp_path):
    step = tf.function(lambda left: tf.linalg.expm(left) @ tf.nn.softmax(left))
    window = Window(2, tmp_path)
    for done in range(1, 7):
        step(tf.eye(32))
        window.on_train_batch_end(done, 6, 0.0)
    operations = {one.type: one for one in by_type(read(tmp_path))}
    softmax = next(one for kind, one in operations.items() if "Softmax" in kind)
    assert softmax.count == 2
    assert 0 < softmax.nanoseconds < 1e9 * window.seconds
