// Activation functions, one thread an element; input and output may be the same memory.
// Grid: COUNT / 256.

#define FOR_ELEMENT(i) \
    int i = blockIdx.x * 256 + threadIdx.x; \
    if (i >= COUNT) return;

extern "C" __global__ void relu_forward(const float* x, float* y) {
    FOR_ELEMENT(i)
    y[i] = x[i] < 0.f ? 0.f : x[i];  // not a number stays: a diverged run must show itself
}

// y: the output of the forward pass.
extern "C" __global__ void relu_backward(const float* y,
                                         const float* gradient,
                                         float* out) {
    FOR_ELEMENT(i)
    out[i] = y[i] > 0.f ? gradient[i] : 0.f;
}

extern "C" __global__ void tanh_forward(const float* x, float* y) {
    FOR_ELEMENT(i)
    y[i] = tanhf(x[i]);
}

extern "C" __global__ void tanh_backward(const float* y,
                                         const float* gradient,
                                         float* out) {
    FOR_ELEMENT(i)
    out[i] = __fmul_rn(gradient[i], __fsub_rn(1.f, __fmul_rn(y[i], y[i])));
}
