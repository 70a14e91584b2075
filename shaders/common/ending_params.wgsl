    // Members of the uniform block that the ending of a product needs (ending.wgsl).
#if END_ADD
    end_s: f32,
#endif
#if DROP
    end_sample: u32, // elements
    end_salt: u32,
    end_keep: f32,
    end_inv_keep: f32,
#endif
