// The update of weights or biases (rule.cuh).
//
//   w values, v their momenta, g their gradients: [COUNT]
//   factors  with BF16 the weights once more, real, as the products read them: rows of REAL_C
//            channels of OUT_C kernels each become rows of IN_C channels; what that adds stays 0
//   scaled   if there are any: the rate and the decay in place of the arguments
//   loss     if there is one and it is no number, or not finite, nothing changes
//
// `round_off` makes the factors of weights that came from elsewhere. Grid: COUNT / PER / 256.
#include "real.cuh"
#include "rule.cuh"
#ifndef OUT_C
#define OUT_C COUNT
#define REAL_C 1
#define IN_C 1
#endif
constexpr int PER = COUNT % 4 == 0 && OUT_C % 4 == 0 ? 4 : 1;

__device__ __forceinline__ void write_factors(bfloat16* factors, int i, const float (&w)[PER]) {
    int row = i / OUT_C;
    int at = REAL_C == IN_C ? i : (row / REAL_C * IN_C + row % REAL_C) * OUT_C + i % OUT_C;
    if (PER == 1) {
        factors[at] = w[0];
        return;
    }
    unsigned* words = reinterpret_cast<unsigned*>(factors + at);
    words[0] = to_bf16x2(w[0], w[1 % PER]);
    words[1] = to_bf16x2(w[2 % PER], w[3 % PER]);
}

__device__ __forceinline__ void load(const float* p, float (&v)[PER]) {
    if (PER == 1) {
        v[0] = p[0];
        return;
    }
    float4 wide = load4(p);
    v[0] = wide.x, v[1 % PER] = wide.y, v[2 % PER] = wide.z, v[3 % PER] = wide.w;
}

__device__ __forceinline__ void store(float* p, const float (&v)[PER]) {
    if (PER == 1) p[0] = v[0];
    else store4(p, make_float4(v[0], v[1 % PER], v[2 % PER], v[3 % PER]));
}

extern "C" __global__ void __launch_bounds__(256)
update(float* __restrict__ w, float* __restrict__ v, const float* __restrict__ g, float momentum,
       float decay, float rate, bfloat16* __restrict__ factors, const float* __restrict__ loss,
       const float* __restrict__ scaled) {
    int i = (blockIdx.x * 256 + threadIdx.x) * PER;
    if (i >= COUNT) return;
    if (!counts(loss)) return;
    if (scaled) rate = scaled[0], decay = scaled[1];
    float value[PER], speed[PER], slope[PER];
    load(w + i, value);
    load(v + i, speed);
    load(g + i, slope);
#pragma unroll
    for (int q = 0; q < PER; q++) {
        Rule{momentum, decay, rate}.apply(value[q], speed[q], slope[q]);
    }
    store(v + i, speed);
    store(w + i, value);
    if (BF16 && factors) write_factors(factors, i, value);
}

extern "C" __global__ void __launch_bounds__(256)
round_off(const float* __restrict__ w, bfloat16* __restrict__ factors) {
    int i = (blockIdx.x * 256 + threadIdx.x) * PER;
    if (i >= COUNT) return;
    float value[PER];
    load(w + i, value);
    write_factors(factors, i, value);
}
