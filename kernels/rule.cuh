// The update rule (paper section 5): v = momentum v - decay w - rate g; w = w + v, each operation
// rounded, so that CPU and GPU agree in every bit. decay = weight decay * rate.
#pragma once

struct Rule {
    float momentum, decay, rate;
    __device__ __forceinline__ void apply(float& w, float& v, float g) const {
        float kept = __fsub_rn(__fmul_rn(momentum, v), __fmul_rn(decay, w));
        v = __fsub_rn(kept, __fmul_rn(rate, g));
        w = __fadd_rn(w, v);
    }
};

// Whether a step counts: there is no loss to look at, or it is a number and finite.
__device__ __forceinline__ bool counts(const float* loss) {
    return !loss || *loss - *loss == 0.f;
}
