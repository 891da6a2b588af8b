// The numbers that activations and their gradients are stored as: `real` is float, or with BF16 = 1
// bfloat16 (f32 with 8 bits of fraction less 1, to nearest even). All arithmetic is in f32.
//
// A thread of a pointwise pass takes a pack: the PACK neighbouring values that make 16 bytes.
#pragma once
#ifndef BF16
#define BF16 0
#endif

#ifndef STANDIN
__device__ __forceinline__ unsigned bits_of(float value) { return __float_as_uint(value); }
__device__ __forceinline__ float of_bits(unsigned bits) { return __uint_as_float(bits); }
// Two values as bfloat16, the first in the low half.
__device__ __forceinline__ unsigned to_bf16x2(float low, float high) {
#if __CUDA_ARCH__ >= 800
    unsigned both;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    return both;
#else
    return 0;  // never asked for: bfloat16 needs compute capability 8.0
#endif
}
#else
using standin::bits_of;
using standin::of_bits;
using standin::to_bf16x2;
#endif

struct bfloat16 {
    unsigned short bits;
    __device__ __forceinline__ operator float() const { return of_bits((unsigned)bits << 16); }
    __device__ __forceinline__ bfloat16& operator=(float value) {
        bits = (unsigned short)to_bf16x2(value, 0.f);
        return *this;
    }
};

#if BF16
using real = bfloat16;
#else
using real = float;
#endif
constexpr int PACK = 16 / sizeof(real);

// Where one launch works for both towers of a layer (TOWERS = 2, src/gpu/launch.rs), every other
// block along x is the second one's. What each tower has its own of is EACH(type, name) among a
// kernel's parameters and OWN(name) in its body. It is chosen by an index among the parameters,
// which ptxas keeps in a uniform register; chosen between two of them it took two registers more.
#ifndef TOWERS
#define TOWERS 1
#endif
#if TOWERS == 2
template <class T> struct Each { T of[2]; };
#define EACH(type, name) const __grid_constant__ Each<type> name##_of
#define OWN(name) auto name = name##_of.of[blockIdx.x % 2]
#else
#define EACH(type, name) type name
#define OWN(name)
#endif
// The block's place along x among those of its tower; asked for anew where it is wanted, since a
// register that keeps it is one too many for products with 128.
__device__ __forceinline__ int block_x() {
#if TOWERS == 2 && !defined(STANDIN)
    unsigned block;
    asm volatile("mov.u32 %0, %%ctaid.x;" : "=r"(block));
    return block / 2;
#else
    return blockIdx.x / TOWERS;
#endif
}

__device__ __forceinline__ float4 load4(const float* p) {
    return *reinterpret_cast<const float4*>(p);
}
__device__ __forceinline__ float2 load2(const float* p) {
    return *reinterpret_cast<const float2*>(p);
}
__device__ __forceinline__ void store4(float* p, float4 v) { *reinterpret_cast<float4*>(p) = v; }

// N values from p on: at once if they are a pack (p is then aligned to 16 bytes).
template <int N> __device__ __forceinline__ void load_pack(const real* p, float (&v)[N]) {
    if (N != PACK) {
#pragma unroll
        for (int q = 0; q < N; q++) v[q] = p[q];
        return;
    }
    float4 raw = load4(reinterpret_cast<const float*>(p));
    float words[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
    for (int q = 0; q < N; q++) {
        unsigned word = bits_of(words[q * sizeof(real) / 4]);
        v[q] = BF16 ? of_bits(q % 2 ? word & 0xffff0000u : word << 16) : of_bits(word);
    }
}
template <int N> __device__ __forceinline__ void store_pack(real* p, const float (&v)[N]) {
    if (N != PACK) {
#pragma unroll
        for (int q = 0; q < N; q++) p[q] = v[q];
        return;
    }
    float words[4];
#pragma unroll
    for (int w = 0; w < 4; w++) {
        words[w] = BF16 ? of_bits(to_bf16x2(v[w * N / 4], v[(w * N / 4 + 1) % N])) : v[w % N];
    }
    store4(reinterpret_cast<float*>(p), make_float4(words[0], words[1], words[2], words[3]));
}

// How many of the COUNT values of rows of `width` one thread takes.
__device__ constexpr int pack_of(int width) { return width % PACK == 0 ? PACK : 1; }
