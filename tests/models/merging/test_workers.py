import torch

from models.merging.workers import Workers


def test_each_worker_computes_with_one_thread_and_later_threads_do_not():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with Workers() as workers:
            counts = []
            workers.do(lambda _: counts.append(torch.get_num_threads()), range(20))
        assert counts == [1] * 20
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
