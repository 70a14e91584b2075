// Flat indices of grids that are folded into two dimensions beyond 65,535 workgroups (WebGPU's limit per dimension).

// Index of an invocation in a grid of workgroups of `size`.
fn item_index(gid: vec3<u32>, size: u32) -> u32 {
    return gid.x + gid.y * size * 65535u;
}

// Index of a workgroup.
fn group_index(wid: vec3<u32>) -> u32 {
    return wid.x + wid.y * 65535u;
}
