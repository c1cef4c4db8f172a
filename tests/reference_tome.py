"""Token merging as published (Bolya et al., "Token Merging: Your ViT But Faster", ICLR 2023), the slow way.

Written from the description of the algorithm, one image and one token at a time, to be read and to be compared
with. It shares no code with turbo. A model's own submodules are called for everything that token merging leaves
alone (projections, norms, MLP); attention and merging are spelled out here.

One block, for the tokens of one image:

1.  Attention, where a token that stands for s patches adds log s to every score it receives.
2.  Tokens are compared by the cosine of their keys, averaged over heads.
3.  Tokens alternate between two sets by their present position: even ones are A, odd ones are B.
    The class token is at position 0, hence in A; a distillation token is at position 1, hence in B.
4.  Each token of A picks the most similar token of B. The class token never picks (its row is -inf), and the
    distillation token is never picked (its column is -inf).
5.  The r tokens of A with the highest similarity merge into their pick, weighted by size. No more than half of
    the tokens that are not special can merge.
6.  What is left of A, in order, comes first; B follows. A distillation token stays behind the class token.
7.  The MLP runs on what is left.
"""

import math

import torch


def tome_vit(model, pixel_values, r, proportional=True):
    """The last hidden state of a transformers ViTModel or DeiTModel with r tokens merged per block.

    r is one count, or one count per block. Also returns the number of tokens after each block, and for the first
    image the size of each token at the end.
    """
    distilled = hasattr(model.embeddings, "distillation_token")
    counts = [r] * len(model.layers) if isinstance(r, int) else list(r)
    images, lengths, sizes = [], [], []
    for image in pixel_values:
        tokens = list(model.embeddings(image[None])[0])
        size = [1] * len(tokens)
        lengths = []
        for layer, count in zip(model.layers, counts, strict=True):
            tokens, size = block(layer, tokens, size, count, distilled, proportional)
            lengths.append(len(tokens))
        images.append(model.layernorm(torch.stack(tokens)))
        sizes.append(size)
    return torch.stack(images), lengths, sizes[0]


def block(layer, tokens, size, r, distilled, proportional):
    """One transformer block that merges between attention and MLP."""
    x = torch.stack(tokens)
    normed, attention = layer.layernorm_before(x), layer.attention
    heads = attention.num_attention_heads
    queries = in_heads(attention.q_proj(normed), heads)
    keys = in_heads(attention.k_proj(normed), heads)
    values = in_heads(attention.v_proj(normed), heads)

    attended = [attend(q, k, v, size if proportional else None) for q, k, v in zip(queries, keys, values, strict=True)]
    x = x + attention.o_proj(torch.cat(attended, dim=1))

    metric = list(sum(keys) / heads)
    tokens, size = merge_most_similar(list(x), metric, size, r, distilled)
    x = torch.stack(tokens)
    return list(x + layer.mlp(layer.layernorm_after(x))), size


def in_heads(x, heads):
    """``n (h e)`` -> h matrices ``n e``."""
    width = x.shape[1] // heads
    return [x[:, h * width : (h + 1) * width] for h in range(heads)]


def attend(q, k, v, size):
    """softmax(q kᵀ / √e + log s) v, for one head and one query at a time."""
    bias = torch.zeros(len(k), dtype=k.dtype) if size is None else torch.tensor(size, dtype=k.dtype).log()
    out = []
    for query in q:
        scores = k @ query / math.sqrt(len(query)) + bias
        out.append(torch.softmax(scores, dim=0) @ v)
    return torch.stack(out)


def merge_most_similar(tokens, metric, size, r, distilled):
    """Bipartite soft matching, and the size-weighted mean of what it matched."""
    n, special = len(tokens), 2 if distilled else 1
    r = min(r, (n - special) // 2)
    if r <= 0:
        return tokens, size
    in_a, in_b = list(range(0, n, 2)), list(range(1, n, 2))
    unit = [key / key.norm() for key in metric]

    similarity, pick = {}, {}
    for a in in_a:
        scores = {}
        for b in in_b:
            forbidden = a == 0 or (distilled and b == 1)
            scores[b] = -math.inf if forbidden else float(unit[a] @ unit[b])
        pick[a] = max(in_b, key=scores.__getitem__)
        similarity[a] = scores[pick[a]]
    merging = sorted(in_a, key=similarity.__getitem__, reverse=True)[:r]

    total = {i: size[i] * tokens[i] for i in range(n)}
    count = dict(enumerate(size))
    for a in merging:
        total[pick[a]] = total[pick[a]] + total[a]
        count[pick[a]] += count[a]

    order = [a for a in in_a if a not in merging] + in_b
    if distilled:
        order.remove(1)
        order.insert(1, 1)
    return [total[i] / count[i] for i in order], [count[i] for i in order]
