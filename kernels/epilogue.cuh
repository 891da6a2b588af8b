// How a sum becomes a layer's output: with its bias, and with ReLU where the next layer is one. The
// product that makes a sum whole (conv_forward.cu) and the reduction that adds up its parts
// (reduce.cu) end in it, so splits change no more than the order of the sum.
#pragma once

// Not a number stays: a diverged run must show itself.
__device__ __forceinline__ float with_bias(float sum, float bias) {
    float y = __fadd_rn(sum, bias);
    return RELU && y < 0.f ? 0.f : y;
}
