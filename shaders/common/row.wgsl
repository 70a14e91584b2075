// Rows, their lanes, and sums over a row in a fixed order.
// TREE: a workgroup of WG lanes per row; lane l holds units l, l + WG, …, and partial results meet in a binary tree.
// Otherwise: one invocation per row, in order.

#import grid

#if TREE
const LANES: u32 = WG;
var<workgroup> lane_parts: array<f32, WG>;

fn row_index(gid: vec3<u32>, wid: vec3<u32>) -> u32 {
    return group_index(wid);
}
fn lane_index(lid: u32) -> u32 {
    return lid;
}
fn row_sum(lane: u32, value: f32) -> f32 {
    lane_parts[lane] = value;
    workgroupBarrier();
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        if lane < half {
            lane_parts[lane] += lane_parts[lane + half];
        }
        workgroupBarrier();
    }
    let result = lane_parts[0];
    workgroupBarrier();
    return result;
}
fn row_max(lane: u32, value: f32) -> f32 {
    lane_parts[lane] = value;
    workgroupBarrier();
    for (var half = WG / 2u; half > 0u; half /= 2u) {
        if lane < half {
            lane_parts[lane] = max(lane_parts[lane], lane_parts[lane + half]);
        }
        workgroupBarrier();
    }
    let result = lane_parts[0];
    workgroupBarrier();
    return result;
}
#else
const LANES: u32 = 1u;

fn row_index(gid: vec3<u32>, wid: vec3<u32>) -> u32 {
    return item_index(gid, WG);
}
fn lane_index(lid: u32) -> u32 {
    return 0u;
}
fn row_sum(lane: u32, value: f32) -> f32 {
    return value;
}
fn row_max(lane: u32, value: f32) -> f32 {
    return value;
}
#endif
