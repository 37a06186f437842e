import gc
import weakref

from csscc.memory import release


class Node:
    pass


def test_collects_what_only_cycles_refer_to():
    node = Node()
    node.itself = node
    gone = weakref.ref(node)
    gc.disable()
    try:
        del node
        assert gone() is not None
        release()
        assert gone() is None
    finally:
        gc.enable()
