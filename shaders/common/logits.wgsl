// Of a row of `logits` (a binding of the kernel with rows of p.cols units) from unit `at` on: the largest with its place,
// and the log-sum-exp. Needs `elem`, `row` and `best`.

fn best_logit(lane: u32, at: u32) -> Best {
    let cols = p.cols;
    var best = Best(LOWEST, NOWHERE);
    for (var i = lane; i < cols; i += LANES) {
        best = better(best, logits[at + i], i * WIDTH);
    }
    return row_best(lane, best);
}

// `top` is the largest logit.
fn log_sum_exp(lane: u32, at: u32, top: f32) -> f32 {
    let cols = p.cols;
    var sum = E(0.0);
    for (var i = lane; i < cols; i += LANES) {
        sum += exp(logits[at + i] - top);
    }
    return top + log(row_sum(lane, total(sum)));
}
