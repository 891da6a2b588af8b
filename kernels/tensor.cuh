// Instructions of compute capability 8.0 and later that a whole warp takes part in: products on
// tensor cores and the loads that feed them; and copies from global to shared memory that run on
// beside the thread. (PTX ISA: "Matrix fragments for mma.m16n8k8" and "m16n8k16", "ldmatrix",
// "cp.async".)
//
// Of lane 4 r + q, an m16n8k8 product in TF32 takes the left factor's (line, k) a[0] (r, q), a[1]
// (r + 8, q), a[2] (r, q + 4), a[3] (r + 8, q + 4) and the right one's (k, column) b0 (q, r), b1
// (q + 4, r). m16n8k16 in bfloat16 takes two neighbours of k in each word: a[0] (r, 2 q), a[1] (r +
// 8, 2 q), a[2] (r, 2 q + 8), a[3] (r + 8, 2 q + 8); b0 (2 q, r), b1 (2 q + 8, r). The sums' (line,
// column) are c0 (r, 2 q), c1 (r, 2 q + 1), c2 (r + 8, 2 q), c3 (r + 8, 2 q + 1), in f32.
#pragma once
#include "real.cuh"

#ifdef STANDIN
using standin::commit_copies;
using standin::copy_later;
using standin::load_matrices;
using standin::multiply_add_bf16;
using standin::multiply_add_tf32;
using standin::to_tf32;
using standin::wait_for_copies;
#else
// To the nearest of 10 bits behind the point, halves away from zero.
__device__ __forceinline__ float to_tf32(float value) {
    unsigned bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
    return __uint_as_float(bits);
}

__device__ __forceinline__ void multiply_add_tf32(float (&c)[4], const unsigned (&a)[4],
                                                  unsigned b0, unsigned b1) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ __forceinline__ void multiply_add_bf16(float (&c)[4], const unsigned (&a)[4],
                                                  unsigned b0, unsigned b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ __forceinline__ unsigned shared_address(const void* p) {
    return (unsigned)__cvta_generic_to_shared(p);
}

// Four matrices of 8 rows of 16 bytes in shared memory; lane l names row l % 8 of matrix l / 8.
// Lane 4 r + q gets of each the two values from column 2 q of row r on; with TURNED, of rows 2 q
// and 2 q + 1 the value in column r.
template <bool TURNED>
__device__ __forceinline__ void load_matrices(unsigned (&to)[4], const void* row) {
    if (TURNED) {
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                     : "r"(shared_address(row)) : "memory");
    } else {
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                     : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                     : "r"(shared_address(row)) : "memory");
    }
}

// 16 bytes from global to shared memory, or zeros where `exists` is false; there once
// wait_for_copies has returned. Copies up to commit_copies are a group.
__device__ __forceinline__ void copy_later(void* shared, const void* global, bool exists) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :: "r"(shared_address(shared)), "l"(global), "r"(exists ? 16 : 0) : "memory");
}
__device__ __forceinline__ void commit_copies() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}
// Waits for this thread's copies, but for the newest PENDING groups.
template <int PENDING> __device__ __forceinline__ void wait_for_copies() {
    asm volatile("cp.async.wait_group %0;" :: "n"(PENDING) : "memory");
}
#endif
