// Sums of which each process has made a part, added up in the order of processes.
//
//   parts  [RANKS][pixels][JOINED_C], real
//   sums   [PIXELS][CHANNELS], real: of the channels from CHANNEL on; 0 from `pixels` on
//
// Grid: PIXELS * CHANNELS / 256.
#include "real.cuh"

extern "C" __global__ void __launch_bounds__(256)
sum_parts(const real* __restrict__ parts, int pixels, real* __restrict__ sums) {
    int i = blockIdx.x * 256 + threadIdx.x;
    if (i >= PIXELS * CHANNELS) return;
    float sum = 0.f;
    if (i / CHANNELS < pixels) {
        parts += i / CHANNELS * JOINED_C + CHANNEL + i % CHANNELS;
        sum = parts[0];
        for (int rank = 1; rank < RANKS; rank++) {
            sum = __fadd_rn(sum, parts[(size_t)rank * pixels * JOINED_C]);
        }
    }
    sums[i] = sum;
}
