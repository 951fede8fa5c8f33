/* A management library of two GPUs, for tests: the structures are those of NVIDIA's nvml.h. */
#include <stdio.h>
#include <string.h>

typedef struct { unsigned int environment, ccFeature, devToolsMode; } State;
typedef struct {
    unsigned int isCecAttestationReportPresent, attestationReportSize, cecAttestationReportSize;
    unsigned char nonce[0x20], attestationReport[0x2000], cecAttestationReport[0x1000];
} Report;
typedef struct {
    unsigned int certChainSize, attestationCertChainSize;
    unsigned char certChain[0x1000], attestationCertChain[0x1400];
} Certificate;

#ifndef INIT
#define INIT 0
#endif
#ifndef COUNT
#define COUNT 2
#endif
#ifndef REPORT_SIZE
#define REPORT_SIZE (32 + 6)
#endif

static int devices[64];

int nvmlInit_v2(void) { return INIT; }
int nvmlShutdown(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned int *count) { *count = COUNT; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **device) {
    if (index >= COUNT) return 2;
    *device = &devices[index];
    return 0;
}
int nvmlSystemGetConfComputeState(State *state) {
    state->environment = 2;
    state->ccFeature = 1;
    state->devToolsMode = 0;
    return 0;
}
#ifndef TOO_OLD
int nvmlDeviceGetConfComputeGpuAttestationReport(void *device, Report *report) {
    report->attestationReportSize = REPORT_SIZE;
    memcpy(report->attestationReport, report->nonce, 32);
    sprintf((char *)report->attestationReport + 32, "gpu %d", (int)((int *)device - devices));
    return 0;
}
#endif
int nvmlDeviceGetConfComputeGpuCertificate(void *device, Certificate *certificate) {
    (void)device;
    strcpy((char *)certificate->attestationCertChain, "-----BEGIN CERTIFICATE-----");
    certificate->attestationCertChainSize = 28;
    return 0;
}
