// Activation functions; input and output, real, may be the same memory. Grid: COUNT / PER / 256; a
// thread takes PER neighbouring elements.

#include "real.cuh"
constexpr int PER = pack_of(COUNT);

// to = function(values of x, values of gradient) for this thread's elements.
template <class Function>
__device__ __forceinline__ void each(const real* x, const real* gradient, real* to,
                                     Function function) {
    int i = (block_x() * 256 + threadIdx.x) * PER;
    if (i >= COUNT) return;
    float values[PER], slopes[PER];
    load_pack(x + i, values);
    load_pack(gradient + i, slopes);
#pragma unroll
    for (int q = 0; q < PER; q++) values[q] = function(values[q], slopes[q]);
    store_pack(to + i, values);
}

extern "C" __global__ void relu_forward(EACH(const real*, x), EACH(real*, y)) {
    OWN(x);
    OWN(y);
    // Not a number stays: a diverged run must show itself.
    each(x, x, y, [](float value, float) { return value < 0.f ? 0.f : value; });
}

// y: the output of the forward pass.
extern "C" __global__ void
relu_backward(EACH(const real*, y), EACH(const real*, gradient), EACH(real*, out)) {
    OWN(y);
    OWN(gradient);
    OWN(out);
    each(y, gradient, out, [](float value, float slope) { return value > 0.f ? slope : 0.f; });
}

extern "C" __global__ void tanh_forward(EACH(const real*, x), EACH(real*, y)) {
    OWN(x);
    OWN(y);
    each(x, x, y, [](float value, float) { return tanhf(value); });
}

extern "C" __global__ void
tanh_backward(EACH(const real*, y), EACH(const real*, gradient), EACH(real*, out)) {
    OWN(y);
    OWN(gradient);
    OWN(out);
    each(y, gradient, out, [](float value, float slope) {
        return __fmul_rn(slope, __fsub_rn(1.f, __fmul_rn(value, value)));
    });
}
