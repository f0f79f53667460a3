// A Vulkan layer for tests on a driver that runs on the CPU (SwiftShader). It changes what the driver says of itself, so
// that CubeCL compiles kernels in another way, as the environment says:
//
//     STAND_IN_SPIRV=DIR   The driver has VK_KHR_workgroup_memory_explicit_layout, as drivers of GPUs have. Each distinct
//                          SPIR-V module is kept in the folder, named by its hash; launches do nothing.
//     neither              The driver lacks Vulkan's memory model: CubeCL then compiles WGSL, as a build without the
//                          feature `vulkan` does.
//
//     cc -O1 -shared -fPIC -o layer.so layer.c
//
// After the interface of layers in Khronos' "Vulkan Loader", docs/LoaderLayerInterface.md.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vulkan/vk_layer.h>
#include <vulkan/vulkan.h>

#define EXTENSION VK_KHR_WORKGROUP_MEMORY_EXPLICIT_LAYOUT_EXTENSION_NAME

// The functions below this layer. There is one driver, so they are the same for all instances and devices.
static PFN_vkGetInstanceProcAddr next_instance_function;
static PFN_vkGetDeviceProcAddr next_device_function;
static PFN_vkEnumerateDeviceExtensionProperties next_extensions;
static PFN_vkGetPhysicalDeviceFeatures2 next_features;
static PFN_vkCreateDevice next_create_device;

static const char *folder(void) { return getenv("STAND_IN_SPIRV"); }

static VKAPI_ATTR VkResult VKAPI_CALL create_instance(const VkInstanceCreateInfo *info,
                                                      const VkAllocationCallbacks *memory, VkInstance *instance) {
    VkLayerInstanceCreateInfo *chain = (VkLayerInstanceCreateInfo *)info->pNext;
    while (chain && !(chain->sType == VK_STRUCTURE_TYPE_LOADER_INSTANCE_CREATE_INFO && chain->function == VK_LAYER_LINK_INFO))
        chain = (VkLayerInstanceCreateInfo *)chain->pNext;
    if (!chain) return VK_ERROR_INITIALIZATION_FAILED;
    next_instance_function = chain->u.pLayerInfo->pfnNextGetInstanceProcAddr;
    chain->u.pLayerInfo = chain->u.pLayerInfo->pNext;
    VkResult result = ((PFN_vkCreateInstance)next_instance_function(NULL, "vkCreateInstance"))(info, memory, instance);
    if (result == VK_SUCCESS) {
        PFN_vkGetInstanceProcAddr of = next_instance_function;
        next_extensions = (PFN_vkEnumerateDeviceExtensionProperties)of(*instance, "vkEnumerateDeviceExtensionProperties");
        next_features = (PFN_vkGetPhysicalDeviceFeatures2)of(*instance, "vkGetPhysicalDeviceFeatures2");
        next_create_device = (PFN_vkCreateDevice)of(*instance, "vkCreateDevice");
    }
    return result;
}

static VKAPI_ATTR VkResult VKAPI_CALL device_extensions(VkPhysicalDevice device, const char *layer, uint32_t *count,
                                                        VkExtensionProperties *found) {
    if (layer || !folder()) return next_extensions(device, layer, count, found);
    uint32_t room = *count;
    if (found && room > 0) *count = room - 1;
    VkResult result = next_extensions(device, layer, count, found);
    if (!found) {
        *count += 1;
    } else if (room > 0 && result == VK_SUCCESS) {
        memset(&found[*count], 0, sizeof *found);
        strcpy(found[*count].extensionName, EXTENSION);
        found[*count].specVersion = 1;
        *count += 1;
    } else {
        result = VK_INCOMPLETE;
    }
    return result;
}

static VKAPI_ATTR void VKAPI_CALL features(VkPhysicalDevice device, VkPhysicalDeviceFeatures2 *asked) {
    next_features(device, asked);
    for (VkBaseOutStructure *each = (VkBaseOutStructure *)asked; each; each = each->pNext) {
        if (folder() && each->sType == VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_WORKGROUP_MEMORY_EXPLICIT_LAYOUT_FEATURES_KHR) {
            VkPhysicalDeviceWorkgroupMemoryExplicitLayoutFeaturesKHR *layout = (void *)each;
            layout->workgroupMemoryExplicitLayout = layout->workgroupMemoryExplicitLayoutScalarBlockLayout = VK_TRUE;
            layout->workgroupMemoryExplicitLayout8BitAccess = layout->workgroupMemoryExplicitLayout16BitAccess = VK_TRUE;
        }
        if (!folder() && each->sType == VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_MEMORY_MODEL_FEATURES)
            ((VkPhysicalDeviceVulkanMemoryModelFeatures *)each)->vulkanMemoryModel = VK_FALSE;
    }
}

// The driver must not be asked for what it does not have.
static VKAPI_ATTR VkResult VKAPI_CALL create_device(VkPhysicalDevice physical, const VkDeviceCreateInfo *info,
                                                    const VkAllocationCallbacks *memory, VkDevice *device) {
    VkLayerDeviceCreateInfo *chain = NULL;
    for (VkBaseOutStructure *each = (VkBaseOutStructure *)info; each->pNext; each = each->pNext) {
        if (each->pNext->sType == VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_WORKGROUP_MEMORY_EXPLICIT_LAYOUT_FEATURES_KHR)
            each->pNext = each->pNext->pNext;
        if (!each->pNext) break;
        VkLayerDeviceCreateInfo *next = (VkLayerDeviceCreateInfo *)each->pNext;
        if (next->sType == VK_STRUCTURE_TYPE_LOADER_DEVICE_CREATE_INFO && next->function == VK_LAYER_LINK_INFO) chain = next;
    }
    if (!chain) return VK_ERROR_INITIALIZATION_FAILED;
    next_device_function = chain->u.pLayerInfo->pfnNextGetDeviceProcAddr;
    chain->u.pLayerInfo = chain->u.pLayerInfo->pNext;
    const char **names = calloc(info->enabledExtensionCount + 1, sizeof *names);
    VkDeviceCreateInfo changed = *info;
    changed.enabledExtensionCount = 0;
    changed.ppEnabledExtensionNames = names;
    for (uint32_t i = 0; i < info->enabledExtensionCount; i++)
        if (strcmp(info->ppEnabledExtensionNames[i], EXTENSION) != 0)
            names[changed.enabledExtensionCount++] = info->ppEnabledExtensionNames[i];
    VkResult result = next_create_device(physical, &changed, memory, device);
    free(names);
    return result;
}

static VKAPI_ATTR VkResult VKAPI_CALL create_module(VkDevice device, const VkShaderModuleCreateInfo *info,
                                                    const VkAllocationCallbacks *memory, VkShaderModule *module) {
    uint64_t hash = 14695981039346656037u;
    char name[4096], partial[4200];
    for (size_t i = 0; i < info->codeSize; i++) hash = (hash ^ ((const uint8_t *)info->pCode)[i]) * 1099511628211u;
    snprintf(name, sizeof name, "%s/%016llx.spv", folder(), (unsigned long long)hash);
    // Another thread may make the same module.
    snprintf(partial, sizeof partial, "%s.%p.partial", name, (void *)&name);
    FILE *file = fopen(partial, "w");
    if (!file || fwrite(info->pCode, 1, info->codeSize, file) != info->codeSize || fclose(file) || rename(partial, name)) {
        perror(name);
        abort();
    }
    *module = (VkShaderModule)hash;
    return VK_SUCCESS;
}

static VKAPI_ATTR VkResult VKAPI_CALL create_pipelines(VkDevice device, VkPipelineCache cache, uint32_t count,
                                                       const VkComputePipelineCreateInfo *infos,
                                                       const VkAllocationCallbacks *memory, VkPipeline *pipelines) {
    for (uint32_t i = 0; i < count; i++) pipelines[i] = (VkPipeline)infos[i].stage.module;
    return VK_SUCCESS;
}

static VKAPI_ATTR void VKAPI_CALL destroy_module(VkDevice device, VkShaderModule module, const VkAllocationCallbacks *memory) {}
static VKAPI_ATTR void VKAPI_CALL destroy_pipeline(VkDevice device, VkPipeline pipeline, const VkAllocationCallbacks *memory) {}
static VKAPI_ATTR void VKAPI_CALL bind_pipeline(VkCommandBuffer commands, VkPipelineBindPoint point, VkPipeline pipeline) {}
static VKAPI_ATTR void VKAPI_CALL dispatch(VkCommandBuffer commands, uint32_t x, uint32_t y, uint32_t z) {}
static VKAPI_ATTR void VKAPI_CALL dispatch_indirect(VkCommandBuffer commands, VkBuffer buffer, VkDeviceSize offset) {}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL device_function(VkDevice device, const char *name) {
    static const struct {
        const char *name;
        PFN_vkVoidFunction function;
    } ours[] = {
        {"vkCreateShaderModule", (PFN_vkVoidFunction)create_module},
        {"vkCreateComputePipelines", (PFN_vkVoidFunction)create_pipelines},
        {"vkDestroyShaderModule", (PFN_vkVoidFunction)destroy_module},
        {"vkDestroyPipeline", (PFN_vkVoidFunction)destroy_pipeline},
        {"vkCmdBindPipeline", (PFN_vkVoidFunction)bind_pipeline},
        {"vkCmdDispatch", (PFN_vkVoidFunction)dispatch},
        {"vkCmdDispatchIndirect", (PFN_vkVoidFunction)dispatch_indirect},
    };
    if (strcmp(name, "vkGetDeviceProcAddr") == 0) return (PFN_vkVoidFunction)device_function;
    for (size_t i = 0; folder() && i < sizeof ours / sizeof *ours; i++)
        if (strcmp(name, ours[i].name) == 0) return ours[i].function;
    return next_device_function(device, name);
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL instance_function(VkInstance instance, const char *name) {
    static const struct {
        const char *name;
        PFN_vkVoidFunction function;
    } ours[] = {
        {"vkGetInstanceProcAddr", (PFN_vkVoidFunction)instance_function},
        {"vkGetDeviceProcAddr", (PFN_vkVoidFunction)device_function},
        {"vkCreateInstance", (PFN_vkVoidFunction)create_instance},
        {"vkCreateDevice", (PFN_vkVoidFunction)create_device},
        {"vkEnumerateDeviceExtensionProperties", (PFN_vkVoidFunction)device_extensions},
        {"vkGetPhysicalDeviceFeatures2", (PFN_vkVoidFunction)features},
        {"vkGetPhysicalDeviceFeatures2KHR", (PFN_vkVoidFunction)features},
    };
    for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
        if (strcmp(name, ours[i].name) == 0) return ours[i].function;
    return next_instance_function ? next_instance_function(instance, name) : NULL;
}

VKAPI_ATTR VkResult VKAPI_CALL vkNegotiateLoaderLayerInterfaceVersion(VkNegotiateLayerInterface *interface) {
    interface->loaderLayerInterfaceVersion = 2;
    interface->pfnGetInstanceProcAddr = instance_function;
    interface->pfnGetDeviceProcAddr = device_function;
    interface->pfnGetPhysicalDeviceProcAddr = NULL;
    return VK_SUCCESS;
}
