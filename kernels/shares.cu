// Values of neurons that processes divide: rows of all neurons' values, which are computed with,
// against blocks, one a process, of rows of that process's, which travel.
//
// Process r of RANKS has the neurons from ALL * r / RANKS on, up to the next one's. All is real.
//
//   rows    [ROOM][ALL], of which `images` count; the others stay as they are
//   blocks  [RANKS][images][own]
//
// Grid: ROOM * ALL / 256.
#include "real.cuh"

// Where neuron `column` of an image stands in the blocks.
__device__ __forceinline__ int in_blocks(int image, int column, int images) {
    unsigned rank = ((unsigned)(column + 1) * RANKS - 1) / ALL;
    int first = (unsigned)ALL * rank / RANKS, next = (unsigned)ALL * (rank + 1) / RANKS;
    return images * first + image * (next - first) + column - first;
}

extern "C" __global__ void __launch_bounds__(256)
into_rows(const real* __restrict__ blocks, int images, real* __restrict__ rows) {
    int i = blockIdx.x * 256 + threadIdx.x;
    if (i < images * ALL) rows[i] = blocks[in_blocks(i / ALL, i % ALL, images)];
}

extern "C" __global__ void __launch_bounds__(256)
into_blocks(const real* __restrict__ rows, int images, real* __restrict__ blocks) {
    int i = blockIdx.x * 256 + threadIdx.x;
    if (i < images * ALL) blocks[in_blocks(i / ALL, i % ALL, images)] = rows[i];
}
