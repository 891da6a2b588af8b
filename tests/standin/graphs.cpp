// The stand-in for libcuda.so.1: capture and graphs. What is queued on a stream that captures, and
// on streams that wait for events recorded there, is kept as calls; a graph's launch makes those
// calls again on the same streams, so that their order is as strict as it was written and no
// stricter.
#include "driver.hpp"

using namespace standin;

namespace {

struct Graph {
    std::vector<std::function<int()>> calls;
    Stream* origin;
};
struct Executable {
    Graph graph;
};

}  // namespace

API cuStreamBeginCapture_v2(void* stream, int) {
    Guard guard(lock);
    if (!setting("STANDIN_CAPTURE", 1)) return NOT_SUPPORTED;
    if (capture || !stream) return CAPTURE_UNSUPPORTED;
    capture = new Capture;
    capture->origin = stream_of(stream);
    capture->done[capture->origin] = 0;
    return SUCCESS;
}
API cuStreamEndCapture(void* stream, Graph** out) {
    Guard guard(lock);
    *out = nullptr;
    if (!capture || capture->origin != stream_of(stream)) return INVALID_VALUE;
    Capture ended = std::move(*capture);
    delete capture;
    capture = nullptr;
    if (ended.broken) return CAPTURE_INVALIDATED;
    for (auto& [own, work] : ended.done) {
        if (own != ended.origin && ended.joined[own] != work) return CAPTURE_UNJOINED;
    }
    *out = new Graph{std::move(ended.calls), ended.origin};
    return SUCCESS;
}
API cuGraphInstantiateWithFlags(Executable** out, Graph* graph, unsigned long long) {
    Guard guard(lock);
    if (!setting("STANDIN_GRAPHS", 1)) return OUT_OF_MEMORY;
    counters.graphs++;
    return *out = new Executable{*graph}, SUCCESS;
}
API cuGraphExecUpdate_v2(Executable* own, Graph* graph, void*) {
    Guard guard(lock);
    if (own->graph.calls.size() != graph->calls.size()) return UPDATE_FAILED;
    return own->graph = *graph, SUCCESS;
}
API cuGraphLaunch(Executable* own, void* stream) {
    Guard guard(lock);
    if (own->graph.origin != stream_of(stream)) return INVALID_VALUE;  // enough for this program
    counters.graph_launches++;
    for (auto& call : own->graph.calls) {
        if (int result = call()) return result;
    }
    return SUCCESS;
}
API cuGraphDestroy(Graph* graph) { return delete graph, SUCCESS; }
API cuGraphExecDestroy(Executable* own) { return delete own, SUCCESS; }
