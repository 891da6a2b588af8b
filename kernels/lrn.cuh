// Response normalisation over maps, for the kernels that do it: y = x / d^BETA with d = OFFSET +
// ALPHA * sum of x^2 over a pixel's map and the HALF maps to each side of it.
//
// Who includes it says what HALF is, and PER: a thread makes PER neighbouring of the CHANNELS of a
// pixel. What they need of their neighbours it reads (out of the cache) and computes itself, in the
// backward pass d as well: that costs less than the memory to keep it.
//
// MASK: x is a ReLU's output, and the gradient is that to the ReLU's input.
#pragma once
#include "real.cuh"
#ifndef MASK
#define MASK 0
#endif

// The channels from c - AROUND to c + PER + AROUND of a pixel whose channel c lies at p, 0 beyond
// the first and the last.
template <int AROUND> struct Around {
    float at[PER + 2 * AROUND];

    __device__ __forceinline__ Around(const real* p, int c) {
        if (PER == PACK && AROUND <= PACK) {
            float before[PER], own[PER], after[PER];
            load_pack(p, own);
            if (c > 0) load_pack(p - PER, before);
            if (c + PER < CHANNELS) load_pack(p + PER, after);
#pragma unroll
            for (int q = 0; q < PER; q++) at[AROUND + q] = own[q];
#pragma unroll
            for (int q = 0; q < AROUND; q++) {
                at[q] = c > 0 ? before[(PER - AROUND + q) % PER] : 0.f;
                at[AROUND + PER + q] = c + PER < CHANNELS ? after[q % PER] : 0.f;
            }
            return;
        }
#pragma unroll
        for (int q = 0; q < PER + 2 * AROUND; q++) {
            int channel = c + q - AROUND;
            at[q] = channel >= 0 && channel < CHANNELS ? float(p[q - AROUND]) : 0.f;
        }
    }
};

// d of the channel in the middle of those from `from` on.
__device__ __forceinline__ float scale_of(const float* from) {
    float sum = 0.f;
#pragma unroll
    for (int q = 0; q < 2 * HALF + 1; q++) sum = fmaf(from[q], from[q], sum);
    return fmaf(float(ALPHA), sum, float(OFFSET));
}

// 1 / sqrt(v) to two units of the last place, without rsqrtf's care for the smallest numbers.
__device__ __forceinline__ float inverse_root(float v) {
#ifdef STANDIN
    return 1.f / sqrtf(v);
#else
    float root;
    asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(root) : "f"(v));
    return root;
#endif
}

// d^-BETA and d^-BETA / d. For the paper's 3/4 by r = d^-1/2 and d^-1/4 = sqrt(r) = r / sqrt(r):
// two instructions and a few products, where exact roots and a division take some forty.
struct Powers {
    float power, next;

    __device__ __forceinline__ Powers(float d) {
        if (float(BETA) != 0.75f) {
            power = powf(d, -float(BETA));
            next = power / d;
            return;
        }
#ifdef STANDIN
        float root = inverse_root(d);
#else
        float root = rsqrtf(d);
#endif
        power = root * (root * inverse_root(root));
        next = power * root * root;
    }
};

// y of the PER channels from c on, which lie at p.
__device__ __forceinline__ void normalise(const real* p, int c, float (&y)[PER]) {
    Around<HALF> own(p, c);
#pragma unroll
    for (int q = 0; q < PER; q++) {
        y[q] = __fmul_rn(own.at[HALF + q], Powers(scale_of(own.at + q)).power);
    }
}

// dx of the PER channels from c on, whose x lie at p, from the dy around them:
// dx_i = dy_i d_i^-beta - 2 alpha beta x_i * sum over i's neighbours j of dy_j x_j d_j^-beta / d_j.
__device__ __forceinline__ void normalise_backward(const real* p, int c,
                                                   const float (&dy)[PER + 2 * HALF],
                                                   float (&dx)[PER]) {
    constexpr float FACTOR = -2.f * float(ALPHA) * float(BETA);
    Around<2 * HALF> own(p, c);
    float direct[PER], shares[PER + 2 * HALF];
#pragma unroll
    for (int q = 0; q < PER + 2 * HALF; q++) {  // the channel c - HALF + q
        Powers of(scale_of(own.at + q));
        if (q >= HALF && q < HALF + PER) direct[(q - HALF) % PER] = __fmul_rn(dy[q], of.power);
        shares[q] = __fmul_rn(__fmul_rn(dy[q], own.at[HALF + q]), of.next);
    }
#pragma unroll
    for (int q = 0; q < PER; q++) {
        float sum = 0.f;
#pragma unroll
        for (int j = 0; j < 2 * HALF + 1; j++) sum = __fadd_rn(sum, shares[q + j]);
        float x = own.at[2 * HALF + q];
        float whole = fmaf(__fmul_rn(FACTOR, x), sum, direct[q]);
        dx[q] = !MASK || x > 0.f ? whole : 0.f;
    }
}
