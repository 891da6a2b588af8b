// Local response normalisation (paper section 3.3): y = x / d^beta, d = K + A * sum of x^2 over a
// neighbourhood of SIZE maps at the same pixel (WITHIN = 0), or of SIZE x SIZE pixels of the same
// map (WITHIN = 1). ALPHA is already divided if the config asks for that.
//
//   x, y, gradient (to y), out (to x)  [IMAGES][H][W][C], real
//   scale (d)  float, like x: with WITHIN alone, where a backward pass is to come
//
// MASK: x is a ReLU's output, and the gradient is that to the ReLU's input.
//
// Grid: elements / PER / 256. A thread makes PER neighbouring channels of a pixel; what they need
// of their neighbours it reads (out of the cache) and computes itself, in the backward pass d as
// well: that costs less than the memory to keep it.
#include "real.cuh"
#ifndef MASK
#define MASK 0
#endif
constexpr int COUNT = IMAGES * H * W * C;
constexpr int HALF = SIZE / 2;
constexpr int PER = WITHIN ? 1 : pack_of(C);

// d^-beta; for the paper's 3/4 by square roots, cheaper than powf.
__device__ __forceinline__ float inverse_power(float d) {
    if (float(BETA) != 0.75f) return powf(d, -float(BETA));
    float root = sqrtf(d);
    return 1.f / (root * sqrtf(root));
}

// The channels from c - AROUND to c + PER + AROUND of a pixel whose channel c lies at p, 0 beyond
// the first and the last.
template <int AROUND> struct Channels {
    float at[PER + 2 * AROUND];

    __device__ __forceinline__ Channels(const real* p, int c) {
        if (PER == PACK && AROUND <= PACK) {
            float before[PER], own[PER], after[PER];
            load_pack(p, own);
            if (c > 0) load_pack(p - PER, before);
            if (c + PER < C) load_pack(p + PER, after);
#pragma unroll
            for (int q = 0; q < PER; q++) at[AROUND + q] = own[q];
#pragma unroll
            for (int q = 0; q < AROUND; q++) {
                at[q] = c > 0 ? before[(PER - AROUND + q) % PER] : 0.f;
                at[AROUND + PER + q] = c + PER < C ? after[q % PER] : 0.f;
            }
            return;
        }
#pragma unroll
        for (int q = 0; q < PER + 2 * AROUND; q++) {
            int channel = c + q - AROUND;
            at[q] = channel >= 0 && channel < C ? float(p[q - AROUND]) : 0.f;
        }
    }
};

// d of the channel in the middle of the SIZE from `from` on.
__device__ __forceinline__ float scale_of(const float* from) {
    float sum = 0.f;
#pragma unroll
    for (int q = 0; q < 2 * HALF + 1; q++) sum = fmaf(from[q], from[q], sum);
    return fmaf(float(ALPHA), sum, float(K));
}

// Calls visit(index) for each neighbour of element i within its map, in rising order.
template <class Visit> __device__ __forceinline__ void neighbours(int i, Visit visit) {
    int x = i / C % W, y = i / C / W % H;
    for (int v = max(y - HALF, 0); v <= min(y + HALF, H - 1); v++) {
        for (int u = max(x - HALF, 0); u <= min(x + HALF, W - 1); u++) {
            visit(i + ((v - y) * W + u - x) * C);
        }
    }
}

extern "C" __global__ void __launch_bounds__(256)
lrn_forward(const real* __restrict__ x, float* __restrict__ scale, real* __restrict__ y) {
    int i = (blockIdx.x * 256 + threadIdx.x) * PER;
    if (i >= COUNT) return;
    if (WITHIN) {
        float sum = 0.f;
        neighbours(i, [&](int j) { sum = fmaf(x[j], x[j], sum); });
        float d = fmaf(float(ALPHA), sum, float(K));
        if (scale) scale[i] = d;
        y[i] = x[i] * inverse_power(d);
        return;
    }
    Channels<HALF> own(x + i, i % C);
    float made[PER];
#pragma unroll
    for (int q = 0; q < PER; q++) made[q] = own.at[HALF + q] * inverse_power(scale_of(own.at + q));
    store_pack(y + i, made);
}

// dx_i = dy_i d_i^-beta - 2 alpha beta x_i * sum over i's neighbours j of dy_j x_j d_j^-beta / d_j.
// The output is not read: layers above may have changed it in place.
extern "C" __global__ void __launch_bounds__(256)
lrn_backward(const real* __restrict__ x, const float* __restrict__ scale,
             const real* __restrict__ gradient, real* __restrict__ out) {
    constexpr float FACTOR = -2.f * float(ALPHA) * float(BETA);
    int i = (blockIdx.x * 256 + threadIdx.x) * PER;
    if (i >= COUNT) return;
    if (WITHIN) {
        float sum = 0.f;
        neighbours(i, [&](int j) {
            float d = scale[j];
            sum = fmaf(gradient[j] * x[j], inverse_power(d) / d, sum);
        });
        float direct = gradient[i] * inverse_power(scale[i]);
        float made = fmaf(FACTOR * x[i], sum, direct);
        out[i] = !MASK || float(x[i]) > 0.f ? made : 0.f;
        return;
    }
    Channels<2 * HALF> own(x + i, i % C);
    Channels<HALF> above(gradient + i, i % C);
    float powers[PER], shares[PER + 2 * HALF], made[PER];
#pragma unroll
    for (int q = 0; q < PER + 2 * HALF; q++) {  // the channel i % C - HALF + q
        float d = scale_of(own.at + q), power = inverse_power(d);
        if (q >= HALF && q < HALF + PER) powers[q - HALF] = power;
        shares[q] = above.at[q] * own.at[HALF + q] * (power / d);
    }
#pragma unroll
    for (int q = 0; q < PER; q++) {
        float sum = 0.f;
#pragma unroll
        for (int j = 0; j < 2 * HALF + 1; j++) sum += shares[q + j];
        float x_q = own.at[2 * HALF + q];
        float whole = fmaf(FACTOR * x_q, sum, above.at[HALF + q] * powers[q]);
        made[q] = !MASK || x_q > 0.f ? whole : 0.f;
    }
    store_pack(out + i, made);
}
