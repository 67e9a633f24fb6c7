"""Networks are compared with others bit by bit, so with torch's own attention; test_attention.py measures ours."""

import pytest
import torch.nn.functional as F

from sdcli.models.architectures import attention


@pytest.fixture(autouse=True)
def attention_of_torch(monkeypatch):
    monkeypatch.setattr(attention, "softmax_attention", F.scaled_dot_product_attention)
