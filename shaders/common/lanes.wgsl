// Rows that the eight lanes of a subgroup, which is a workgroup, hold together: lane l has words l, l + 8, …, WORDS of them,
// so that a row is read once and from one piece of memory. Sums over a row in a fixed order.

const LANES: u32 = 8u;
alias Row = array<Parts, WORDS>;

fn lanes_sum(v: f32) -> f32 {
    return ((subgroupBroadcast(v, 0u) + subgroupBroadcast(v, 1u)) + (subgroupBroadcast(v, 2u) + subgroupBroadcast(v, 3u)))
        + ((subgroupBroadcast(v, 4u) + subgroupBroadcast(v, 5u)) + (subgroupBroadcast(v, 6u) + subgroupBroadcast(v, 7u)));
}
