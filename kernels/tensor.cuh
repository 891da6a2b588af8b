// One instruction of a tensor core (compute capability 8.0 and later): the product of 16 x 8 and
// 8 x 8 values in TF32, added to 16 x 8 sums in f32. All 32 lanes of a warp take part.
//
// Of lane 4 r + q, the left factor's (line, k) are low0 (r, q), low1 (r + 8, q), high0 (r, q + 4),
// high1 (r + 8, q + 4); the right one's (k, column) are b0 (q, r), b1 (q + 4, r); the sums' (line,
// column) are c0 (r, 2 q), c1 (r, 2 q + 1), c2 (r + 8, 2 q), c3 (r + 8, 2 q + 1). (PTX ISA, "Matrix
// fragments for mma.m16n8k8", type .tf32.)
#pragma once

#ifdef STANDIN
using standin::multiply_add_tf32;
using standin::to_tf32;
#else
// To the nearest of 10 bits behind the point, halves away from zero.
__device__ __forceinline__ float to_tf32(float value) {
    unsigned bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
    return __uint_as_float(bits);
}

__device__ __forceinline__ void multiply_add_tf32(float& c0, float& c1, float& c2, float& c3,
                                                  float low0, float low1, float high0, float high1,
                                                  float b0, float b1) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c0), "+f"(c1), "+f"(c2), "+f"(c3)
        : "r"(__float_as_uint(low0)), "r"(__float_as_uint(low1)), "r"(__float_as_uint(high0)),
          "r"(__float_as_uint(high1)), "r"(__float_as_uint(b0)), "r"(__float_as_uint(b1)));
}
#endif
