"""A masked language model in plain PyTorch, from beginning to end: python examples/masked_lm.py

On your own text, with all that belongs to it: pellucid train BOOK.txt --out runs/masked --set objective=masked
"""

import torch
from torch import nn

SENTENCES = ["the cat drinks milk in the kitchen", "the dog eats meat in the yard", "小猫 在 厨房 里 喝 牛奶", "小狗 在 院子 里 吃 肉"]  # fmt: skip
WORDS = ["<pad>", "<mask>", *sorted({word for sentence in SENTENCES for word in sentence.split()})]
PAD, MASK, IGNORE = 0, 1, -100  # a target of -100 is left out of the loss


class MaskedLM(nn.Module):
    def __init__(self, vocab_size: int, length: int, width: int = 64) -> None:
        super().__init__()
        self.embed, self.position = nn.Embedding(vocab_size, width), nn.Embedding(length, width)
        layer = nn.TransformerEncoderLayer(width, nhead=4, dim_feedforward=128, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, num_layers=2, enable_nested_tensor=False)  # sees both sides
        self.head = nn.Linear(width, vocab_size)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embed(ids) + self.position(torch.arange(ids.size(1)))
        return self.head(self.encoder(x, src_key_padding_mask=ids == PAD))


def hide(ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of 15 % of the words 80 % are shown as <mask>, 10 % as another word, 10 % as they are: those are the targets."""
    chosen, draw = (torch.rand(ids.shape) < 0.15) & (ids != PAD), torch.rand(ids.shape)
    shown = torch.where(chosen & (draw < 0.9), torch.randint(2, len(WORDS), ids.shape), ids)
    return torch.where(chosen & (draw < 0.8), MASK, shown), torch.where(chosen, ids, IGNORE)


torch.manual_seed(0)
rows = [torch.tensor([WORDS.index(word) for word in sentence.split()]) for sentence in SENTENCES]
text = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PAD)
model = MaskedLM(len(WORDS), text.size(1))
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
for step in range(151):
    ids, targets = hide(text.repeat(16, 1))  # other words at each step
    loss = nn.functional.cross_entropy(model(ids).flatten(0, 1), targets.flatten(), ignore_index=IGNORE)
    optimizer.zero_grad(), loss.backward(), optimizer.step()
    if step % 25 == 0:
        print(f"step {step:3}  loss {loss.item():.3f}")
asked = text.scatter(1, torch.tensor([[3], [1], [5], [2]]), MASK)  # one word of each sentence
for ids, chances in zip(asked, model(asked).softmax(-1)):
    chance, word = chances[ids == MASK][0].max(-1)
    print(" ".join(WORDS[i] for i in ids if i != PAD), f"->  {WORDS[word]} ({chance:.0%})")
